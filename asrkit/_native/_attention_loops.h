/* The loops of _attention.c, which includes this file by builds.h, once for each kind of CPU. */
#include "_exp_loops.h"

/* f = F * (the last weights), for weights (H, T) of one hypothesis, which are 0 beyond both ends. */
static void BUILD(filter)(const Task *task, const float *previous) {
    const Py_ssize_t num_steps = task->num_steps, row = task->channel_row;
    memset(task->features, 0, num_steps * row * sizeof(float));
    for (Py_ssize_t h = 0; h < task->num_heads; h++, previous += num_steps) {
        for (Py_ssize_t w = 0; w < task->width; w++) {
            const Py_ssize_t shift = w - task->width / 2; /* from the features to the weights */
            const Py_ssize_t first = shift < 0 ? -shift : 0, last = shift > 0 ? num_steps - shift : num_steps;
            for (Py_ssize_t c = 0; c < row; c += LANES) {
                const f32x8 kernel = LOAD(task->kernels + (h * task->width + w) * row + c);
                float *features = task->features + c;
                for (Py_ssize_t t = first; t < last; t++)
                    STORE(features + t * row, LOAD(features + t * row) + previous[t + shift] * kernel);
            }
        }
    }
}

/* Sum v tanh(q + k + U f) over one head's share, for SOME steps at a time. `is_whole`: the share fills its vectors. */
#define SOME 4
INLINE void BUILD(score)(const Task *task, Py_ssize_t head, const float *query, const float *keys, const float *features,
                         const int number, const bool is_whole, float *scores) {
    const Py_ssize_t share = task->share, size = task->num_heads * share;
    const float *weight = task->weight + head * share, *location = task->location + head * share;
    f32x8 total[SOME] = {0};
    for (Py_ssize_t a = 0; a < share; a += LANES) {
        const Py_ssize_t rest = is_whole ? LANES : share - a;
        f32x8 sum[SOME], q = BUILD(load_some)(query + a, rest), v = BUILD(load_some)(weight + a, rest);
#pragma GCC unroll 4
        for (int i = 0; i < number; i++) sum[i] = q + BUILD(load_some)(keys + i * size + a, rest);
        for (Py_ssize_t c = 0; c < task->num_channels; c++) {
            f32x8 u = BUILD(load_some)(location + c * size + a, rest);
#pragma GCC unroll 4
            for (int i = 0; i < number; i++) sum[i] += features[i * task->channel_row + c] * u;
        }
#pragma GCC unroll 4
        for (int i = 0; i < number; i++) total[i] += v * BUILD(tanh)(sum[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < number; i++) {
        float score = 0;
        for (int lane = 0; lane < LANES; lane++) score += total[i][lane];
        scores[i] = score;
    }
}

static void BUILD(score_all)(const Task *task) {
    const Py_ssize_t num_steps = task->num_steps, share = task->share, size = task->num_heads * share;
    const Py_ssize_t row = task->num_heads * num_steps;
    for (Py_ssize_t hyp = 0; hyp < task->num_utts * task->num_hyps; hyp++) {
        const float *query = task->query + hyp * size, *keys = task->keys + hyp / task->num_hyps * num_steps * size;
        if (task->num_channels > 0) BUILD(filter)(task, task->previous + hyp * row);
        for (Py_ssize_t h = 0; h < task->num_heads; h++, query += share, keys += share) {
            float *scores = task->scores + hyp * row + h * num_steps;
            const float *features = task->features;
            Py_ssize_t t = 0;
            for (; share % LANES == 0 && t + SOME <= num_steps; t += SOME)
                BUILD(score)(task, h, query, keys + t * size, features + t * task->channel_row, SOME, true, scores + t);
            for (; t < num_steps; t++)
                BUILD(score)(task, h, query, keys + t * size, features + t * task->channel_row, 1, false, scores + t);
        }
    }
}
#undef SOME
