/* The loops of _lstm.c, which includes this file by builds.h, once for each kind of CPU. */
#define LOAD(pointer) (*(const f32x8u *)(pointer))
#define STORE(pointer, vector) (*(f32x8u *)(pointer) = (vector))
#define INLINE static inline __attribute__((always_inline))

INLINE f32x8 BUILD(spread)(float x) { return (f32x8){x, x, x, x, x, x, x, x}; }

/* c (R, 32) += a (R, depth) b (depth, 32), or = without `adds`. Rows of a and c are lda and ldc apart. */
INLINE void BUILD(tile)(const int rows, Py_ssize_t depth, const float *a, Py_ssize_t lda, const float *b, float *c,
                        Py_ssize_t ldc, bool adds) {
    f32x8 sum[3][4];
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            sum[r][v] = (f32x8){0};
            if (adds) sum[r][v] = LOAD(c + r * ldc + v * LANES);
        }
    }
    for (Py_ssize_t k = 0; k < depth; k++) {
        f32x8 factor[3];
#pragma GCC unroll 3
        for (int r = 0; r < rows; r++) factor[r] = BUILD(spread)(a[r * lda + k]);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) { /* one vector of weights at a time: the registers hold 12 sums, 3 factors, this */
            f32x8 weight = LOAD(b + k * TILE + v * LANES);
#pragma GCC unroll 3
            for (int r = 0; r < rows; r++) sum[r][v] += factor[r] * weight;
        }
    }
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) STORE(c + r * ldc + v * LANES, sum[r][v]);
    }
}

/* The same for any number of rows: by threes, which is what the registers hold, but rather 2 + 2 than 3 + 1. */
static void BUILD(multiply)(Py_ssize_t rows, Py_ssize_t depth, const float *a, Py_ssize_t lda, const float *b, float *c,
                            Py_ssize_t ldc, bool adds) {
    while (rows > 0) {
        if (rows == 3 || rows > 4) {
            BUILD(tile)(3, depth, a, lda, b, c, ldc, adds);
            a += 3 * lda, c += 3 * ldc, rows -= 3;
        } else if (rows >= 2) {
            BUILD(tile)(2, depth, a, lda, b, c, ldc, adds);
            a += 2 * lda, c += 2 * ldc, rows -= 2;
        } else {
            BUILD(tile)(1, depth, a, lda, b, c, ldc, adds);
            rows = 0;
        }
    }
}

/* Rows that stay in the second cache while all tiles are multiplied with them. */
enum { BUILD(slice) = 96 };

static void BUILD(run_multiply)(Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t tiles, const float *left,
                                const float *right, const float *bias, float *product) {
    const Py_ssize_t columns = tiles * TILE;
    for (Py_ssize_t first = 0; first < rows; first += BUILD(slice)) {
        const Py_ssize_t some = rows - first < BUILD(slice) ? rows - first : BUILD(slice);
        float *to = product + first * columns;
        for (Py_ssize_t r = 0; r < some; r++) {
            if (bias != NULL) {
                memcpy(to + r * columns, bias, columns * sizeof(float));
            } else if (depth == 0) {
                memset(to + r * columns, 0, columns * sizeof(float));
            }
        }
        for (Py_ssize_t k = 0; k < depth; k += BLOCK) {
            const Py_ssize_t part = depth - k < BLOCK ? depth - k : BLOCK;
            for (Py_ssize_t j = 0; j < tiles; j++) {
                BUILD(multiply)(some, part, left + first * depth + k, depth, right + (j * depth + k) * TILE,
                                to + j * TILE, columns, bias != NULL || k > 0);
            }
        }
    }
}

/* x from -limit to limit. NaN stays, for comparisons with it are false, and of two numbers min and max return the second
 * when one is NaN. */
INLINE f32x8 BUILD(clip)(f32x8 x, float limit) {
    f32x8 low = BUILD(spread)(-limit), high = BUILD(spread)(limit);
#if VECTOR_BYTES == 32
    return __builtin_ia32_minps256(high, __builtin_ia32_maxps256(low, x));
#else
    i32x8 is_low = x < low, is_high = x > high;
    x = (f32x8)((is_low & (i32x8)low) | (~is_low & (i32x8)x));
    return (f32x8)((is_high & (i32x8)high) | (~is_high & (i32x8)x));
#endif
}

/* e^x = scale (1 + m) for |x| <= 88: splits x into n ln 2 + r with |r| <= ln 2 / 2, so that scale is 2^n and m is
 * e^r - 1. The polynomial interpolates m / r at Chebyshev's points; its error is 3e-8 of the value. */
INLINE f32x8 BUILD(split_exp)(f32x8 x, f32x8 *scale) {
    const float rounder = 12582912.0f; /* 1.5 2^23: adding it rounds to an integer in the low bits */
    f32x8 shifted = x * 1.44269504f + rounder;
    f32x8 n = shifted - rounder;
    f32x8 r = x - n * 0.693145752f; /* ln 2 in two parts: the first has few bits, so that n times it is exact */
    r = r - n * 1.42860677e-6f;
    f32x8 square = r * r, low = r * 0.5f + 1.0f, middle = r * 0.0416664649f + 0.166665052f;
    f32x8 high = r * 0.001393365f + 0.00836915567f;
    *scale = (f32x8)(((i32x8)shifted << 23) + 0x3f800000);
    return ((high * square + middle) * square + low) * r;
}

INLINE f32x8 BUILD(sigmoid)(f32x8 x) {
    f32x8 scale, m = BUILD(split_exp)(-BUILD(clip)(x, 87.0f), &scale);
    return 1.0f / (1.0f + (scale + scale * m));
}

/* (e^2x - 1) / (e^2x + 1): exact to a few units in the last place near 0 too. */
INLINE f32x8 BUILD(tanh)(f32x8 x) {
    f32x8 scale, m = BUILD(split_exp)(2.0f * BUILD(clip)(x, 10.0f), &scale);
    f32x8 grown = scale * m + (scale - 1.0f);
    return grown / (grown + 2.0f);
}

INLINE void BUILD(store_some)(float *to, f32x8 vector, Py_ssize_t number) {
    if (number >= LANES) {
        STORE(to, vector);
    } else {
        for (Py_ssize_t i = 0; i < number; i++) to[i] = vector[i];
    }
}

INLINE f32x8 BUILD(load_some)(const float *from, Py_ssize_t number) {
    if (number >= LANES) return LOAD(from);
    f32x8 vector = {0};
    for (Py_ssize_t i = 0; i < number; i++) vector[i] = from[i];
    return vector;
}

/* A panel of a step's rows from the gates' sums to the outputs. Rows lie one after the other as the arrays have them;
 * `before` are the cells of the step before, of the first `known` rows, `next` the states of the step after, of `kept`. */
static __attribute__((noinline)) void BUILD(update)(const Task *task, Py_ssize_t panel, Py_ssize_t rows,
                                                    Py_ssize_t known, Py_ssize_t kept, float *gates, float *cell,
                                                    const float *before, float *output, float *next) {
    const Py_ssize_t panels = task->num_panels, width = panels * LANES, units = task->num_units - panel * LANES;
    const float *peepholes = task->peepholes;
    f32x8 weights[3] = {{0}};
    for (int i = 0; i < 3 && peepholes != NULL; i++) weights[i] = LOAD(peepholes + i * width + panel * LANES);
    gates += panel * TILE, cell += panel * 16, before += panel * 16, output += panel * LANES, next += panel * LANES;
    for (Py_ssize_t r = 0; r < rows; r++) {
        f32x8 old = {0};
        if (r < known) old = LOAD(before + r * 2 * width);
        f32x8 input = LOAD(gates), forget = LOAD(gates + 8), candidate = LOAD(gates + 16), out = LOAD(gates + 24);
        if (peepholes != NULL) {
            input += weights[0] * old;
            forget += weights[1] * old;
        }
        input = BUILD(sigmoid)(input);
        forget = BUILD(sigmoid)(forget);
        candidate = BUILD(tanh)(candidate);
        f32x8 now = forget * old + input * candidate;
        if (peepholes != NULL) out += weights[2] * now;
        out = BUILD(sigmoid)(out);
        f32x8 squashed = BUILD(tanh)(now), value = out * squashed;
        STORE(gates, input);
        STORE(gates + 8, forget);
        STORE(gates + 16, candidate);
        STORE(gates + 24, out);
        STORE(cell, now);
        STORE(cell + 8, squashed);
        BUILD(store_some)(output, value, units);
        if (r < kept) STORE(next + r * width, value);
        gates += 4 * width, cell += 2 * width, output += task->num_outputs;
    }
}

static void BUILD(run_forward)(const Task *task) {
    const Py_ssize_t units = task->num_units, panels = task->num_panels, width = panels * LANES;
    const Py_ssize_t steps = task->num_steps, outputs = task->num_outputs;
    const int64_t *sizes = task->batch_sizes;
    Py_ssize_t start = task->is_reversed ? task->num_frames - sizes[steps - 1] : 0, old = 0, known = 0;
    for (Py_ssize_t i = 0; i < steps; i++) {
        /* Rows `start` on are this step's. The first `known` of them have a step before, its rows are `old` on, and
         * the first `kept` have one after, whose rows are `next` on. */
        const Py_ssize_t t = task->is_reversed ? steps - 1 - i : i, size = sizes[t];
        Py_ssize_t next = 0, kept = 0;
        if (i + 1 < steps) {
            next = task->is_reversed ? start - sizes[t - 1] : start + size;
            kept = task->is_reversed ? size : sizes[t + 1];
        }
        float *gates = task->gates + start * 4 * width, *cells = task->cells + start * 2 * width;
        float *states = task->states + start * width;
        if (known > size) known = size;
        memset(states + known * width, 0, (size - known) * width * sizeof(float));
        for (Py_ssize_t k = 0; k < units; k += BLOCK) {
            const Py_ssize_t depth = units - k < BLOCK ? units - k : BLOCK;
            for (Py_ssize_t panel = 0; panel < panels; panel++) {
                const float *weights = task->weights + (panel * units + k) * TILE;
                BUILD(multiply)(known, depth, states + k, width, weights, gates + panel * TILE, 4 * width, true);
                if (k + depth < units) continue;
                BUILD(update)(task, panel, size, known, kept, gates, cells, task->cells + old * 2 * width,
                              task->outputs + start * outputs, task->states + next * width);
            }
        }
        old = start, known = size, start = next;
    }
}

/* A panel of a row: from the gradients of output and cell to those of the gates' sums and of the cell before. */
static __attribute__((noinline)) void BUILD(downdate)(const Task *task, Py_ssize_t panel, const float *gates,
                                                      const float *cell, const float *before, const float *grad_output,
                                                      const float *grad_state, float *grad_cell, float *grad_gates) {
    const Py_ssize_t width = task->num_panels * LANES;
    f32x8 old = {0};
    if (before != NULL) old = LOAD(before);
    f32x8 input = LOAD(gates), forget = LOAD(gates + 8), candidate = LOAD(gates + 16), out = LOAD(gates + 24);
    f32x8 now = LOAD(cell), squashed = LOAD(cell + 8);
    f32x8 grad = BUILD(load_some)(grad_output, task->num_units - panel * LANES) + LOAD(grad_state);
    f32x8 grad_out = grad * squashed * out * (1.0f - out);
    f32x8 grad_now = LOAD(grad_cell) + grad * out * (1.0f - squashed * squashed);
    if (task->peepholes != NULL) grad_now += LOAD(task->peepholes + 2 * width + panel * LANES) * grad_out;
    f32x8 grad_input = grad_now * candidate * input * (1.0f - input);
    f32x8 grad_forget = grad_now * old * forget * (1.0f - forget);
    f32x8 grad_old = grad_now * forget;
    if (task->peepholes != NULL) {
        const float *peepholes = task->peepholes + panel * LANES;
        float *grad_peepholes = task->grad_peepholes + panel * LANES;
        grad_old += LOAD(peepholes) * grad_input + LOAD(peepholes + width) * grad_forget;
        STORE(grad_peepholes, LOAD(grad_peepholes) + grad_input * old);
        STORE(grad_peepholes + width, LOAD(grad_peepholes + width) + grad_forget * old);
        STORE(grad_peepholes + 2 * width, LOAD(grad_peepholes + 2 * width) + grad_out * now);
    }
    STORE(grad_cell, grad_old);
    STORE(grad_gates, grad_input);
    STORE(grad_gates + 8, grad_forget);
    STORE(grad_gates + 16, grad_now * input * (1.0f - candidate * candidate));
    STORE(grad_gates + 24, grad_out);
}

static void BUILD(run_backward)(const Task *task) {
    const Py_ssize_t panels = task->num_panels, width = panels * LANES, tiles = (task->num_units - 1) / TILE + 1;
    const Py_ssize_t steps = task->num_steps, outputs = task->num_outputs;
    const int64_t *sizes = task->batch_sizes;
    Py_ssize_t start = task->is_reversed ? 0 : task->num_frames - sizes[steps - 1];
    for (Py_ssize_t i = 0; i < steps; i++) {
        /* From the direction's last step to its first. The first `known` rows have a step before it, from `old` on. */
        const Py_ssize_t t = task->is_reversed ? i : steps - 1 - i, size = sizes[t];
        Py_ssize_t old = 0, known = 0;
        if (i + 1 < steps) {
            old = task->is_reversed ? start + size : start - sizes[t - 1];
            known = task->is_reversed ? sizes[t + 1] : size;
        }
        float *grad_gates = task->grad_gates + start * 4 * width;
        for (Py_ssize_t r = 0; r < size; r++) {
            for (Py_ssize_t panel = 0; panel < panels; panel++) {
                const Py_ssize_t at = r * panels + panel, place = start * panels + at;
                const float *before = r < known ? task->cells + old * 2 * width + at * 16 : NULL;
                BUILD(downdate)(task, panel, task->gates + place * TILE, task->cells + place * 16, before,
                                task->grad_outputs + (start + r) * outputs + panel * LANES,
                                task->grad_state + r * tiles * TILE + panel * LANES, task->grad_cell + at * LANES,
                                grad_gates + at * TILE);
            }
        }
        for (Py_ssize_t k = 0; k < 4 * width; k += BLOCK) {
            const Py_ssize_t depth = 4 * width - k < BLOCK ? 4 * width - k : BLOCK;
            for (Py_ssize_t j = 0; j < tiles; j++) {
                const float *weights = task->weights + (j * 4 * width + k) * TILE;
                BUILD(multiply)(known, depth, grad_gates + k, 4 * width, weights, task->grad_state + j * TILE,
                                tiles * TILE, k > 0);
            }
        }
        start = old;
    }
}

#undef LOAD
#undef STORE
#undef INLINE
