/* The loops of _align.c, which includes this file by builds.h, once for each kind of CPU. */
typedef double BUILD(f64) __attribute__((vector_size(VECTOR_BYTES)));
typedef double BUILD(f64u) __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
typedef int64_t BUILD(i64) __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t BUILD(i64u) __attribute__((vector_size(VECTOR_BYTES), aligned(1), may_alias));
#define f64 BUILD(f64)
#define f64u BUILD(f64u)
#define i64 BUILD(i64)
#define i64u BUILD(i64u)
#define SELECT(mask, yes, no) ((__typeof__(yes))(((mask) & (i64)(yes)) | (~(mask) & (i64)(no))))
#define LOAD(pointer) (*(const f64u *)(pointer))
#define STORE(pointer, vector) (*(f64u *)(pointer) = (vector))

enum { BUILD(lanes) = VECTOR_BYTES / 8 };
#define LANES BUILD(lanes)

/* Whether the sums of all log probabilities are finite or -inf. */
static bool BUILD(are_numbers)(const Task *task) {
    size_t size = (size_t)task->num_frames * task->num_classes;
    int bad = 0;
    if (task->is_double) {
        for (size_t i = 0; i < size; i++) bad |= !(((const double *)task->log_probs)[i] < MAX_LOG_PROB);
    } else {
        for (size_t i = 0; i < size; i++) bad |= !(((const float *)task->log_probs)[i] < (float)MAX_LOG_PROB);
    }
    return !bad;
}

/* One frame for the tokens from `first` on, before `end`, and the blanks before them; both are multiples of LANES. */
static inline __attribute__((always_inline)) void BUILD(step)(const Lattice *lattice, const void *frame,
                                                              const bool is_double, Py_ssize_t first, Py_ssize_t end,
                                                              const double *token, const double *blank,
                                                              double *next_token, double *next_blank, uint8_t *steps) {
    const Py_ssize_t width = lattice->width;
    const int max_run = lattice->max_run;
    const int32_t *ids = lattice->ids;
    const double *all_allowed = lattice->allowed;
    const double blank_emitted = is_double ? ((const double *)frame)[0] : ((const float *)frame)[0];
    for (Py_ssize_t block = first - first % (8 * LANES); block < end; block += 8 * LANES) {
        i64 packed = {0};
        Py_ssize_t low = first > block ? first : block;
        for (Py_ssize_t u = (end < block + 8 * LANES ? end : block + 8 * LANES) - LANES; u >= low; u -= LANES) {
            f64 before = LOAD(token + u - 1), wait = LOAD(blank + u), best = LOAD(token + u);
            i64 ends_token = before > wait;
            STORE(next_blank + u, SELECT(ends_token, before, wait) + blank_emitted);

            i64 better = wait > best, step = better & 1;
            best = SELECT(better, wait, best);
            const double *allowed = all_allowed + u;
            f64 arrival = before + LOAD(allowed + width);
            better = arrival > best;
            best = SELECT(better, arrival, best);
            step = SELECT(better, (i64){0} + 2, step);
            for (int n = 1; n <= max_run; n++) {
                allowed += 2 * width;
                arrival = LOAD(blank + u - n) + LOAD(allowed);
                better = arrival > best;
                best = SELECT(better, arrival, best);
                step = SELECT(better, (i64){0} + (2 * n + 1), step);
                arrival = LOAD(token + u - n - 1) + LOAD(allowed + width);
                better = arrival > best;
                best = SELECT(better, arrival, best);
                step = SELECT(better, (i64){0} + (2 * n + 2), step);
            }
            f64 emitted;
            for (int lane = 0; lane < LANES; lane++) {
                emitted[lane] = is_double ? ((const double *)frame)[ids[u + lane]] : ((const float *)frame)[ids[u + lane]];
            }
            STORE(next_token + u, best + emitted);
            packed = packed << 8 | step | (ends_token & FROM_TOKEN);
        }
        packed <<= 8 * ((low - block) / LANES);
        *(i64u *)(steps + block) = packed;
    }
}

/* All frames, forwards. Returns which of the two stored frames is the last. */
static int BUILD(search)(const Task *task, Lattice *lattice) {
    const Py_ssize_t num_frames = task->num_frames, num_tokens = task->num_tokens;
    lattice->lane_bits = LANES == 4 ? 2 : 1;
    int now = 0;
    for (Py_ssize_t t = 0; t < num_frames; t++, now = !now) {
        /* Without optional tokens, the path is at most one token further in each frame. */
        Py_ssize_t first = 0, end = lattice->width;
        if (!lattice->has_optional) {
            first = num_tokens - (num_frames - t);
            first = first > 0 ? first - first % LANES : 0;
            if (t + 1 < num_tokens) end = t + 1 + LANES - (t + 1) % LANES;
        }
        const double *token = lattice->token[now], *blank = lattice->blank[now];
        double *next_token = lattice->token[!now], *next_blank = lattice->blank[!now];
        uint8_t *steps = lattice->steps + t * lattice->row;
        if (task->is_double) {
            const double *frame = (const double *)task->log_probs + t * task->num_classes;
            BUILD(step)(lattice, frame, true, first, end, token, blank, next_token, next_blank, steps);
        } else {
            const float *frame = (const float *)task->log_probs + t * task->num_classes;
            BUILD(step)(lattice, frame, false, first, end, token, blank, next_token, next_blank, steps);
        }
    }
    return now;
}

#undef f64
#undef f64u
#undef i64
#undef i64u
#undef SELECT
#undef LOAD
#undef STORE
#undef LANES
