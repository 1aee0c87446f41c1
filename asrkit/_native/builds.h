/* Compiles a kernel's loops for a baseline CPU and for AVX2, and chooses when the module is loaded.
 *
 * The kernel NAME has its loops in the file NAME_loops.h, which it includes through this file:
 *
 *     #include "common.h"
 *     ... types and tables that the loops use ...
 *     #define KERNEL_LOOPS "NAME_loops.h"
 *     #include "builds.h"
 *     ... the module's functions, which call PICK(search)(...), and its Py_mod_exec slot choose_build ...
 *
 * NAME_loops.h has no include guard. All its names, including those of helpers, are written as BUILD(x):
 *
 *     static void BUILD(search)(...) { ... }
 *
 * BUILD(search) is search_baseline in the first pass, compiled for the compiler's default CPUs, and search_avx2 in the
 * second pass (x86 only), compiled with AVX2 and FMA. The same vector code serves NEON and SSE: GCC and Clang split
 * vectors that are wider than the machine's. GCC does so for each function before it inlines any. So every function
 * that uses vectors belongs in the loops' file.
 */
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

#define BUILD(name) JOIN(name, _baseline)
#define VECTOR_BYTES 16
#include KERNEL_LOOPS
#undef BUILD
#undef VECTOR_BYTES

#if defined(__x86_64__) || defined(__i386__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define BUILD(name) JOIN(name, _avx2)
#define VECTOR_BYTES 32
#include KERNEL_LOOPS
#undef BUILD
#undef VECTOR_BYTES
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
static bool use_avx2;
#define PICK(name) (use_avx2 ? JOIN(name, _avx2) : JOIN(name, _baseline))
#else
#define PICK(name) JOIN(name, _baseline)
#endif

/* Choose the build for this CPU. ASRKIT_NO_AVX2=1 chooses the baseline on every CPU. The module's BUILD names it. */
static int choose_build(PyObject *module) {
    const char *build = "baseline";
#if defined(__x86_64__) || defined(__i386__)
    const char *refused = getenv("ASRKIT_NO_AVX2");
    __builtin_cpu_init();
    use_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               !(refused != NULL && strcmp(refused, "1") == 0);
    if (use_avx2) build = "avx2";
#endif
    return PyModule_AddStringConstant(module, "BUILD", build);
}
