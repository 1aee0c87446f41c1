/* The loops of _ctc_prefix.c, which includes this file by builds.h, once for each kind of CPU. */
#include "_log_loops.h"

#define LANES 4
#define SOME 2 /* vectors of prefixes at a time: one waits for its logarithms while the other goes on */

/* One new prefix. */
typedef struct {
    const double *before; /* (T + 1,) the paths of its parent that its last phone can follow */
    const double *phone;  /* (T, V) log-probabilities of that phone, V apart */
    double *in_blank, *in_any;
} BUILD(Prefix);

INLINE f64x4 BUILD(at_least_never)(f64x4 x) { return BUILD(select)(x > NEVER, x, BUILD(spread)(NEVER)); }

/* The sums over paths of LANES prefixes for each of `number` vectors. */
INLINE void BUILD(follow)(const Extension *task, const double *blank, const BUILD(Prefix) *prefixes, const int number) {
    const Py_ssize_t num_frames = task->num_frames, num_classes = task->num_classes;
    Py_ssize_t t = 0;
    for (bool is_possible = false; t < num_frames; t++) { /* no path is that short */
        for (int i = 0; i < number * LANES; i++) is_possible = is_possible || prefixes[i].before[t] > NEVER;
        if (is_possible) break;
        for (int i = 0; i < number * LANES; i++) prefixes[i].in_blank[t] = prefixes[i].in_any[t] = NEVER;
    }
    f64x4 in_phone[SOME], in_any[SOME];
#pragma GCC unroll 2
    for (int v = 0; v < number; v++) in_phone[v] = in_any[v] = BUILD(spread)(NEVER);
    for (int i = 0; i < number * LANES; i++) prefixes[i].in_blank[t] = prefixes[i].in_any[t] = NEVER;
    for (; t < num_frames; t++) {
#pragma GCC unroll 2
        for (int v = 0; v < number; v++) {
            const BUILD(Prefix) *some = prefixes + v * LANES;
            f64x4 before, phone;
#pragma GCC unroll 4
            for (int i = 0; i < LANES; i++) {
                before[i] = some[i].before[t];
                phone[i] = some[i].phone[t * num_classes];
            }
            f64x4 in_blank = BUILD(at_least_never)(in_any[v] + blank[t * num_classes]);
            in_phone[v] = BUILD(at_least_never)(BUILD(log_add)(in_phone[v], before) + phone);
            in_any[v] = BUILD(log_add)(in_phone[v], in_blank);
#pragma GCC unroll 4
            for (int i = 0; i < LANES; i++) {
                some[i].in_blank[t + 1] = in_blank[i];
                some[i].in_any[t + 1] = in_any[v][i];
            }
        }
    }
}

static void BUILD(extend)(const Extension *task) {
    const Py_ssize_t row = task->num_frames + 1, num_hyps = task->num_hyps;
    for (Py_ssize_t n = 0; n < task->num_utts; n++) {
        const double *log_probs = task->log_probs + n * task->num_frames * task->num_classes;
        for (Py_ssize_t first = 0; first < num_hyps; first += SOME * LANES) {
            BUILD(Prefix) prefixes[SOME * LANES];
            for (int i = 0; i < SOME * LANES; i++) { /* beyond the last one: that one again, which changes nothing */
                const Py_ssize_t hyp = n * num_hyps + (first + i < num_hyps ? first + i : num_hyps - 1);
                const Py_ssize_t parent = n * task->num_parents + task->parents[hyp];
                const bool is_again = task->tokens[hyp] == task->last[parent]; /* only after a blank */
                prefixes[i].before = (is_again ? task->old_in_blank : task->old_in_any) + parent * row;
                prefixes[i].phone = log_probs + task->tokens[hyp];
                prefixes[i].in_blank = task->in_blank + hyp * row;
                prefixes[i].in_any = task->in_any + hyp * row;
            }
            if (num_hyps - first > LANES) {
                BUILD(follow)(task, log_probs, prefixes, SOME);
            } else {
                BUILD(follow)(task, log_probs, prefixes, 1);
            }
        }
    }
}

/* Replaces logs by e^(x - the largest), in whole vectors, and returns the largest. Beyond `number` it writes zeros. */
static double BUILD(scale)(double *logs, Py_ssize_t number) {
    for (Py_ssize_t t = number; t % LANES != 0; t++) logs[t] = -INFINITY;
    f64x4 most = BUILD(spread)(NEVER);
    for (Py_ssize_t t = 0; t < number; t += LANES) most = BUILD(select)(LOAD(logs + t) > most, LOAD(logs + t), most);
    const double largest = fmax(fmax(most[0], most[1]), fmax(most[2], most[3]));
    for (Py_ssize_t t = 0; t < number; t += LANES) STORE(logs + t, BUILD(exp)(LOAD(logs + t) - largest));
    return largest;
}

/* The machine's own vectors: registers hold the sums of a group. */
typedef double BUILD(wide) __attribute__((vector_size(VECTOR_BYTES)));
typedef double BUILD(wide_u) __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
enum { BUILD(pair) = 2 * VECTOR_BYTES / sizeof(double) };

/* sums (GROUP, num_padded) = shares (GROUP, T) probs (T, num_padded), for two vectors of classes. `first`: the frame
 * before which all shares are 0. */
static void BUILD(sum_classes)(const Scores *task, const double *probs, Py_ssize_t first, double *sums) {
    BUILD(wide) left[GROUP] = {{0}}, right[GROUP] = {{0}};
    for (Py_ssize_t t = first; t < task->num_frames; t++) {
        const double *row = probs + t * task->num_padded;
        BUILD(wide) some = *(const BUILD(wide_u) *)row, others = *(const BUILD(wide_u) *)(row + BUILD(pair) / 2);
#pragma GCC unroll 4
        for (int k = 0; k < GROUP; k++) {
            const double share = task->shares[k * task->share_row + t];
            left[k] += share * some;
            right[k] += share * others;
        }
    }
    for (int k = 0; k < GROUP; k++, sums += task->num_padded) {
        *(BUILD(wide_u) *)sums = left[k];
        *(BUILD(wide_u) *)(sums + BUILD(pair) / 2) = right[k];
    }
}

/* The log probability that a prefix ends in a blank and its last phone follows again. */
static double BUILD(repeat)(const Scores *task, const double *in_blank, const double *phone) {
    f64x4 sum = {0};
    for (Py_ssize_t t = 0; t < task->num_frames; t++) task->paths[t] = in_blank[t] + phone[t * task->num_classes];
    const double largest = BUILD(scale)(task->paths, task->num_frames);
    for (Py_ssize_t t = 0; t < task->num_frames; t += LANES) sum += LOAD(task->paths + t);
    return log((sum[0] + sum[1]) + (sum[2] + sum[3])) + largest;
}

static void BUILD(score)(const Scores *task) {
    const Py_ssize_t num_frames = task->num_frames, num_hyps = task->num_hyps, row = num_frames + 1;
    for (Py_ssize_t n = 0; n < task->num_utts; n++) {
        const double *log_probs = task->log_probs + n * num_frames * task->num_classes;
        const double *probs = task->probs + n * num_frames * task->num_padded;
        for (Py_ssize_t from = 0; from < num_hyps; from += GROUP) {
            const int number = num_hyps - from < GROUP ? (int)(num_hyps - from) : GROUP;
            double largest[GROUP];
            for (int k = 0; k < number; k++) {
                double *shares = task->shares + k * task->share_row;
                memcpy(shares, task->in_any + (n * num_hyps + from + k) * row, num_frames * sizeof(double));
                largest[k] = BUILD(scale)(shares, num_frames);
            }
            Py_ssize_t first = 0;
            for (bool is_zero = true; first < num_frames; first++) {
                for (int k = 0; k < number; k++) is_zero = is_zero && task->shares[k * task->share_row + first] == 0.0;
                if (!is_zero) break;
            }
            for (Py_ssize_t v = 0; v < task->num_padded; v += BUILD(pair))
                BUILD(sum_classes)(task, probs + v, first, task->sums + v);
            for (int k = 0; k < number; k++) {
                const Py_ssize_t hyp = n * num_hyps + from + k, last = task->last[hyp];
                double *sums = task->sums + k * task->num_padded, *scores = task->scores + hyp * task->num_classes;
                for (Py_ssize_t v = 0; v < task->num_padded; v += LANES)
                    STORE(sums + v, BUILD(at_least_never)(BUILD(log)(LOAD(sums + v)) + largest[k]));
                memcpy(scores, sums, task->num_classes * sizeof(double));
                if (last > 0) scores[last] = fmax(BUILD(repeat)(task, task->in_blank + hyp * row, log_probs + last), NEVER);
                scores[0] = NEVER;
            }
        }
    }
}

#undef LANES
#undef SOME
