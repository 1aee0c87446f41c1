/* Loaded before the C library (LD_PRELOAD), counts the changes that processes make to files below a directory, and ends
   one before its change number `at`, or lets that and all later ones that need space fail with `error`.
   forked.py builds it and shares the numbers with it in the file that ASRKIT_FAULTS names. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static struct shared { /* as forked.py writes it */
  int64_t is_on, count, at, error;
  char below[PATH_MAX];
  int64_t failed, num_files; /* the number of the first change that failed, and the first such file of each process */
  char files[8][PATH_MAX];
  int64_t num_free; /* names that were renamed to others: there is room to rename something to them */
  char free[8][PATH_MAX];
} *shared;

__attribute__((constructor)) static void begin(void) {
  const char *name = getenv("ASRKIT_FAULTS");
  int file = name ? (int)((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open"))(name, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *memory = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory != MAP_FAILED) shared = memory;
  close(file);
}

/* Write the whole of `path`, from the directory of `base` on, or of the open file `base` itself when there is none. */
static void find_whole(int base, const char *path, char whole[2 * PATH_MAX]) {
  char link[64] = "/proc/self/cwd";
  if (path && path[0] == '/') {
    snprintf(whole, 2 * PATH_MAX, "%s", path);
    return;
  }
  if (base != AT_FDCWD) snprintf(link, sizeof link, "/proc/self/fd/%d", base);
  ssize_t size = readlink(link, whole, PATH_MAX - 1);
  if (size < 0) size = 0;
  snprintf(whole + size, 2 * PATH_MAX - size, "%s%s", path ? "/" : "", path ? path : "");
}

static int is_new(int base, const char *path) {
  int saved = errno;
  struct stat status;
  int found = fstatat(base, path, &status, AT_SYMLINK_NOFOLLOW);
  errno = saved;
  return found < 0;
}

static int is_free(int base, const char *path) {
  char whole[2 * PATH_MAX];
  find_whole(base, path, whole);
  int found = 0;
  for (int i = 0; shared && i < 8; i++) found |= !strcmp(whole, shared->free[i]);
  return found;
}

static void set_free(const char *whole) {
  if (shared && shared->is_on)
    snprintf(shared->free[__atomic_fetch_add(&shared->num_free, 1, __ATOMIC_SEQ_CST) % 8], PATH_MAX, "%s", whole);
}

/* Count a change. Returns whether it has to fail, with errno set. */
static int fails(int base, const char *path, int needs_space) {
  if (!shared || !shared->is_on) return 0;
  int saved = errno;
  char whole[2 * PATH_MAX];
  find_whole(base, path, whole);
  errno = saved;
  size_t length = strlen(shared->below);
  if (strncmp(whole, shared->below, length) || whole[length] != '/') return 0;
  int64_t number = __atomic_add_fetch(&shared->count, 1, __ATOMIC_SEQ_CST);
  if (!shared->at || number < shared->at) return 0;
  if (!shared->error) {
    if (number == shared->at) kill(getpid(), SIGKILL);
    return 0;
  }
  if (!needs_space) return 0;
  static int is_told;
  int64_t none = 0;
  __atomic_compare_exchange_n(&shared->failed, &none, number, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  if (!__atomic_exchange_n(&is_told, 1, __ATOMIC_SEQ_CST))
    snprintf(shared->files[__atomic_fetch_add(&shared->num_files, 1, __ATOMIC_SEQ_CST) % 8], PATH_MAX, "%s", whole);
  errno = (int)shared->error;
  return 1;
}

#define NEXT(type, name, parameters) type(*next) parameters = (type(*) parameters)dlsym(RTLD_NEXT, #name)
#define WRAP(type, name, parameters, arguments, base, path, needs_space) \
  type name parameters { \
    NEXT(type, name, parameters); \
    return fails(base, path, needs_space) ? -1 : next arguments; \
  }
#define RENAME(name, parameters, arguments, a, from, b, to) \
  int name parameters { \
    NEXT(int, name, parameters); \
    if (fails(b, to, !is_new(a, from) && !is_free(b, to))) return -1; \
    char whole[2 * PATH_MAX]; \
    find_whole(a, from, whole); \
    int status = next arguments; \
    if (!status) set_free(whole); \
    return status; \
  }
#define OPEN(name, parameters, arguments, base) \
  int name parameters { \
    NEXT(int, name, parameters); \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    if (flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR) && fails(base, path, flags & O_CREAT && is_new(base, path))) return -1; \
    return next arguments; \
  }
#define FOPEN(name) \
  FILE *name(const char *path, const char *mode) { \
    NEXT(FILE *, name, (const char *, const char *)); \
    return strpbrk(mode, "wa+") && fails(AT_FDCWD, path, 1) ? NULL : next(path, mode); \
  }

OPEN(open, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPEN(openat, (int base, const char *path, int flags, ...), (base, path, flags, mode), base)
OPEN(openat64, (int base, const char *path, int flags, ...), (base, path, flags, mode), base)
FOPEN(fopen)
FOPEN(fopen64)
WRAP(ssize_t, write, (int file, const void *from, size_t size), (file, from, size), file, NULL, 1)
WRAP(ssize_t, pwrite, (int file, const void *from, size_t size, off_t to), (file, from, size, to), file, NULL, 1)
WRAP(ssize_t, pwrite64, (int file, const void *from, size_t size, off64_t to), (file, from, size, to), file, NULL, 1)
WRAP(ssize_t, writev, (int file, const struct iovec *from, int count), (file, from, count), file, NULL, 1)
WRAP(int, fsync, (int file), (file), file, NULL, 1)
WRAP(int, fdatasync, (int file), (file), file, NULL, 1)
WRAP(int, ftruncate, (int file, off_t size), (file, size), file, NULL, size > 0)
WRAP(int, ftruncate64, (int file, off64_t size), (file, size), file, NULL, size > 0)
WRAP(int, truncate, (const char *path, off_t size), (path, size), AT_FDCWD, path, size > 0)
WRAP(int, truncate64, (const char *path, off64_t size), (path, size), AT_FDCWD, path, size > 0)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), AT_FDCWD, path, is_new(AT_FDCWD, path))
WRAP(int, mkdirat, (int base, const char *path, mode_t mode), (base, path, mode), base, path, is_new(base, path))
WRAP(int, rmdir, (const char *path), (path), AT_FDCWD, path, 0)
WRAP(int, unlink, (const char *path), (path), AT_FDCWD, path, 0)
WRAP(int, unlinkat, (int base, const char *path, int flags), (base, path, flags), base, path, 0)
RENAME(rename, (const char *from, const char *to), (from, to), AT_FDCWD, from, AT_FDCWD, to)
RENAME(renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), a, from, b, to)
WRAP(int, link, (const char *from, const char *to), (from, to), AT_FDCWD, to, 1)
WRAP(int, linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags), b, to, 1)
WRAP(int, symlink, (const char *from, const char *to), (from, to), AT_FDCWD, to, 1)
WRAP(int, symlinkat, (const char *from, int base, const char *to), (from, base, to), base, to, 1)
WRAP(int, chmod, (const char *path, mode_t mode), (path, mode), AT_FDCWD, path, 0)
WRAP(int, fchmod, (int file, mode_t mode), (file, mode), file, NULL, 0)
WRAP(int, utimensat, (int base, const char *path, const struct timespec times[2], int flags), (base, path, times, flags),
     base, path, 0)
WRAP(int, futimens, (int file, const struct timespec times[2]), (file, times), file, NULL, 0)
