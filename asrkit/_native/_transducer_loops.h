/* The loops of _transducer.c, which includes this file by builds.h, once for each kind of CPU. */
#include "_log_loops.h"

/* Four numbers of a row, from `k` on; -inf after the end. */
INLINE f64x4 BUILD(read)(const void *row, bool is_double, Py_ssize_t k, Py_ssize_t end) {
    if (end - k >= 4 && is_double) return LOAD((const double *)row + k);
    if (end - k >= 4) return __builtin_convertvector(*(const f32x4u *)((const float *)row + k), f64x4);
    f64x4 some = BUILD(spread)(-INFINITY);
    for (int i = 0; i < end - k; i++) some[i] = is_double ? ((const double *)row)[k + i] : ((const float *)row)[k + i];
    return some;
}

INLINE void BUILD(write)(void *row, bool is_double, Py_ssize_t k, Py_ssize_t end, f64x4 some) {
    if (end - k >= 4 && is_double) {
        STORE((double *)row + k, some);
    } else if (end - k >= 4) {
        *(f32x4u *)((float *)row + k) = __builtin_convertvector(some, f32x4);
    } else {
        for (int i = 0; i < end - k; i++) {
            if (is_double) {
                ((double *)row)[k + i] = some[i];
            } else {
                ((float *)row)[k + i] = (float)some[i];
            }
        }
    }
}

/* Log-probabilities of the blank and of the next token at every node. If gradients are wanted, leaves e^(x - largest x)
 * in them, and the factors that turn these into probabilities in `shares`. Returns false if a row has none. */
INLINE bool BUILD(read_rows)(const Task *task, Lattice *lattice, const bool is_double) {
    const Py_ssize_t classes = task->num_classes, item = is_double ? sizeof(double) : sizeof(float);
    const Py_ssize_t width = task->num_tokens + 1;
    const char *row = task->logits;
    char *grads = task->grads;
    bool is_good = true;
    for (Py_ssize_t t = 0; t < task->num_steps; t++) {
        for (Py_ssize_t u = 0; u < width; u++, row += classes * item) {
            f64x4 most = BUILD(spread)(-INFINITY);
            for (Py_ssize_t k = 0; k < classes; k += 4) {
                f64x4 x = BUILD(read)(row, is_double, k, classes);
                most = BUILD(select)(x > most, x, most);
            }
            const double largest = fmax(fmax(most[0], most[1]), fmax(most[2], most[3]));
            f64x4 sums = {0};
            for (Py_ssize_t k = 0; k < classes; k += 4) {
                f64x4 share = BUILD(exp)(BUILD(read)(row, is_double, k, classes) - largest);
                sums += share;
                if (grads != NULL) BUILD(write)(grads, is_double, k, classes, share);
            }
            if (grads != NULL) grads += classes * item;
            const double sum = (sums[0] + sums[1]) + (sums[2] + sums[3]), log_sum = largest + log(sum);
            is_good = is_good && isfinite(log_sum);
            const Py_ssize_t place = (t + u) * lattice->stride + u;
            const double blank = BUILD(read)(row, is_double, 0, 1)[0] - log_sum;
            lattice->blank[place] = blank > NEVER ? blank : NEVER;
            if (u < task->num_tokens) {
                const Py_ssize_t token = task->tokens[u];
                const double emitted = BUILD(read)(row, is_double, token, token + 1)[0] - log_sum;
                lattice->token[place] = emitted > NEVER ? emitted : NEVER;
            }
            lattice->shares[t * width + u] = 1.0 / sum;
        }
    }
    return is_good;
}

/* From e^(x - largest x), in place, to the gradients of -log p: p_k times the probability that a path passes the node,
 * minus the probability that it emits k there. */
INLINE void BUILD(write_grads)(const Task *task, const Lattice *lattice, const bool is_double) {
    const Py_ssize_t classes = task->num_classes, item = is_double ? sizeof(double) : sizeof(float);
    const Py_ssize_t width = task->num_tokens + 1;
    char *grads = task->grads;
    for (Py_ssize_t t = 0; t < task->num_steps; t++) {
        for (Py_ssize_t u = 0; u < width; u++, grads += classes * item) {
            const Py_ssize_t place = (t + u) * lattice->stride + u, token = u < task->num_tokens ? task->tokens[u] : 0;
            const double emitted[2] = {lattice->blank[place], u < task->num_tokens ? lattice->token[place] : 0.0};
            const double factor = (emitted[0] + emitted[1]) * lattice->shares[t * width + u];
            for (Py_ssize_t k = 0; k < classes; k += 4)
                BUILD(write)(grads, is_double, k, classes, BUILD(read)(grads, is_double, k, classes) * factor);
            if (is_double) {
                ((double *)grads)[0] -= emitted[0];
                ((double *)grads)[token] -= emitted[1];
            } else {
                ((float *)grads)[0] -= (float)emitted[0];
                ((float *)grads)[token] -= (float)emitted[1];
            }
        }
    }
}

/* The first and the last column of diagonal d, t + u = d, that a path can pass. */
INLINE Py_ssize_t BUILD(first_column)(const Task *task, Py_ssize_t d) {
    return d > task->num_steps ? d - task->num_steps : 0;
}
INLINE Py_ssize_t BUILD(last_column)(const Task *task, Py_ssize_t d) {
    return d < task->num_tokens ? d : task->num_tokens;
}

/* Forwards, diagonal by diagonal: before[d][u] is the log probability of all paths to the node. Returns the log
 * probability of all paths to the end. */
static double BUILD(run_forward)(const Task *task, Lattice *lattice) {
    const Py_ssize_t stride = lattice->stride, last = task->num_steps + task->num_tokens;
    for (Py_ssize_t d = 1; d <= last; d++) {
        const Py_ssize_t from = (d - 1) * stride, end = BUILD(last_column)(task, d);
        const double *before = lattice->before + from, *blank = lattice->blank + from, *token = lattice->token + from;
        for (Py_ssize_t u = BUILD(first_column)(task, d); u <= end; u += 4) {
            f64x4 waited = LOAD(before + u) + LOAD(blank + u);
            f64x4 emitted = LOAD(before + u - 1) + LOAD(token + u - 1);
            STORE(lattice->before + d * stride + u, BUILD(log_add)(waited, emitted));
        }
        /* Reset the numbers that the last vector wrote after the end of the diagonal. */
        for (Py_ssize_t u = end + 1; u <= end + 3; u++) lattice->before[d * stride + u] = NEVER;
    }
    return lattice->before[last * stride + task->num_tokens];
}

/* Backwards. Replaces the log-probabilities of the blank and of the token by the probabilities that a path emits them
 * at the node. */
static void BUILD(run_backward)(const Task *task, Lattice *lattice, double total) {
    const Py_ssize_t stride = lattice->stride, last = task->num_steps + task->num_tokens;
    double *after = lattice->after, *next = after + stride;
    after[task->num_tokens] = 0.0;
    for (Py_ssize_t d = last - 1; d >= 0; d--) {
        const Py_ssize_t from = d * stride, end = BUILD(last_column)(task, d);
        const double *before = lattice->before + from;
        double *blank = lattice->blank + from, *token = lattice->token + from;
        for (Py_ssize_t u = BUILD(first_column)(task, d); u <= end; u += 4) {
            f64x4 waits = LOAD(blank + u) + LOAD(after + u), emits = LOAD(token + u) + LOAD(after + u + 1);
            STORE(next + u, BUILD(log_add)(waits, emits));
            f64x4 reached = LOAD(before + u) - total;
            STORE(blank + u, BUILD(exp)(reached + waits));
            STORE(token + u, BUILD(exp)(reached + emits));
        }
        for (Py_ssize_t u = end + 1; u <= end + 3; u++) next[u] = NEVER;
        double *swapped = after;
        after = next, next = swapped;
    }
}

static double BUILD(loss)(const Task *task, Lattice *lattice) {
    if (!(task->is_double ? BUILD(read_rows)(task, lattice, true) : BUILD(read_rows)(task, lattice, false))) return NAN;
    const double total = BUILD(run_forward)(task, lattice);
    if (total < NEVER / 2) return INFINITY;
    if (task->grads != NULL) {
        BUILD(run_backward)(task, lattice, total);
        if (task->is_double) {
            BUILD(write_grads)(task, lattice, true);
        } else {
            BUILD(write_grads)(task, lattice, false);
        }
    }
    return -total;
}
