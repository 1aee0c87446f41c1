/* The loops of _lstm.c, which includes this file by builds.h, once for each kind of CPU. */
#include "_exp_loops.h"

/* c (R, 32) += a (R, depth) b (depth, 32); without `adds` c = a b. Rows of a and c are lda and ldc apart. */
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
        for (int v = 0; v < 4; v++) { /* one vector of weights at a time: registers hold it, 12 sums and 3 factors */
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

/* The same for any number of rows: three at a time, as many as the registers hold, but 2 + 2 instead of 3 + 1. */
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

/* Rows that stay in the second-level cache while all tiles are multiplied with them. */
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

INLINE void BUILD(store_some)(float *to, f32x8 vector, Py_ssize_t number) {
    if (number >= LANES) {
        STORE(to, vector);
    } else {
        for (Py_ssize_t i = 0; i < number; i++) to[i] = vector[i];
    }
}

/* The numbers of one row in a panel. */
enum { BUILD(gate_floats) = 4 * LANES, BUILD(cell_floats) = 2 * LANES };

/* The rows of a step in the order of a direction: `number` rows from `first` on. The first `num_before` of these
 * utterances have a previous step, in the rows from `before` on. The first `num_after` have a next step, in the rows
 * from `after` on. */
typedef struct {
    Py_ssize_t first, number, before, num_before, after, num_after;
} BUILD(Rows);

/* One panel of a step, from the gates' sums to the outputs:
 *
 *     i = sigmoid(i' + w_i c_before), f = sigmoid(f' + w_f c_before), g = tanh(g')
 *     c = f c_before + i g, o = sigmoid(o' + w_o c), h = o tanh(c)
 *
 * Here ' marks the sums, w are the peepholes, if there are any, and g is the gate called cell. */
static __attribute__((noinline)) void BUILD(step)(const Task *task, Py_ssize_t panel, const BUILD(Rows) *rows) {
    const Py_ssize_t panels = task->num_panels, width = panels * LANES, units = task->num_units - panel * LANES;
    const float *peepholes = task->peepholes;
    f32x8 weights[3] = {{0}};
    for (int i = 0; i < 3 && peepholes != NULL; i++) weights[i] = LOAD(peepholes + i * width + panel * LANES);
    float *gates = task->gates + (rows->first * panels + panel) * BUILD(gate_floats);
    float *cells = task->cells + (rows->first * panels + panel) * BUILD(cell_floats);
    const float *cells_before = task->cells + (rows->before * panels + panel) * BUILD(cell_floats);
    float *states_after = task->states + rows->after * width + panel * LANES;
    float *outputs = task->outputs + rows->first * task->num_outputs + panel * LANES;
    for (Py_ssize_t r = 0; r < rows->number; r++) {
        f32x8 cell_before = {0};
        if (r < rows->num_before) cell_before = LOAD(cells_before + r * 2 * width);
        f32x8 input_gate = LOAD(gates), forget_gate = LOAD(gates + LANES);
        f32x8 cell_gate = LOAD(gates + 2 * LANES), output_gate = LOAD(gates + 3 * LANES);
        if (peepholes != NULL) {
            input_gate += weights[0] * cell_before;
            forget_gate += weights[1] * cell_before;
        }
        input_gate = BUILD(sigmoid)(input_gate);
        forget_gate = BUILD(sigmoid)(forget_gate);
        cell_gate = BUILD(tanh)(cell_gate);
        f32x8 cell = forget_gate * cell_before + input_gate * cell_gate;
        if (peepholes != NULL) output_gate += weights[2] * cell;
        output_gate = BUILD(sigmoid)(output_gate);
        f32x8 tanh_cell = BUILD(tanh)(cell), hidden = output_gate * tanh_cell;
        STORE(gates, input_gate);
        STORE(gates + LANES, forget_gate);
        STORE(gates + 2 * LANES, cell_gate);
        STORE(gates + 3 * LANES, output_gate);
        STORE(cells, cell);
        STORE(cells + LANES, tanh_cell);
        BUILD(store_some)(outputs, hidden, units);
        if (r < rows->num_after) STORE(states_after + r * width, hidden);
        gates += 4 * width, cells += 2 * width, outputs += task->num_outputs;
    }
}

static void BUILD(run_forward)(const Task *task) {
    const Py_ssize_t units = task->num_units, panels = task->num_panels, width = panels * LANES;
    const Py_ssize_t steps = task->num_steps;
    const int64_t *sizes = task->batch_sizes;
    BUILD(Rows) rows = {.first = task->is_reversed ? task->num_frames - sizes[steps - 1] : 0};
    for (Py_ssize_t i = 0; i < steps; i++) {
        const Py_ssize_t t = task->is_reversed ? steps - 1 - i : i;
        rows.number = sizes[t];
        rows.after = rows.num_after = 0;
        if (i + 1 < steps) {
            rows.after = task->is_reversed ? rows.first - sizes[t - 1] : rows.first + sizes[t];
            rows.num_after = task->is_reversed ? sizes[t] : sizes[t + 1];
        }
        if (rows.num_before > rows.number) rows.num_before = rows.number;
        float *gates = task->gates + rows.first * 4 * width, *states = task->states + rows.first * width;
        memset(states + rows.num_before * width, 0, (rows.number - rows.num_before) * width * sizeof(float));
        for (Py_ssize_t k = 0; k < units; k += BLOCK) {
            const Py_ssize_t depth = units - k < BLOCK ? units - k : BLOCK;
            for (Py_ssize_t panel = 0; panel < panels; panel++) {
                const float *weights = task->weights + (panel * units + k) * TILE;
                BUILD(multiply)(rows.num_before, depth, states + k, width, weights, gates + panel * TILE, 4 * width,
                                true);
                if (k + depth == units) BUILD(step)(task, panel, &rows);
            }
        }
        rows.before = rows.first, rows.num_before = rows.number, rows.first = rows.after;
    }
}

/* One panel of a row, backwards: from the gradients of the output and of the cell to those of the gates' sums and of
 * the previous cell, which replace those of the cell. `row` counts in the whole array, `r` within the step.
 * `cell_before` is NULL in the first step. */
static __attribute__((noinline)) void BUILD(step_back)(const Task *task, Py_ssize_t panel, Py_ssize_t row, Py_ssize_t r,
                                                       const float *cell_before_at) {
    const Py_ssize_t panels = task->num_panels, width = panels * LANES, tiles = (task->num_units - 1) / TILE + 1;
    const float *gates = task->gates + (row * panels + panel) * BUILD(gate_floats);
    const float *cells = task->cells + (row * panels + panel) * BUILD(cell_floats);
    const float *grad_outputs = task->grad_outputs + row * task->num_outputs + panel * LANES;
    const float *grad_state = task->grad_state + r * tiles * TILE + panel * LANES;
    float *grad_cells = task->grad_cell + (r * panels + panel) * LANES;
    float *grad_gates = task->grad_gates + (row * panels + panel) * BUILD(gate_floats);
    f32x8 cell_before = {0};
    if (cell_before_at != NULL) cell_before = LOAD(cell_before_at);
    f32x8 input_gate = LOAD(gates), forget_gate = LOAD(gates + LANES);
    f32x8 cell_gate = LOAD(gates + 2 * LANES), output_gate = LOAD(gates + 3 * LANES);
    f32x8 cell = LOAD(cells), tanh_cell = LOAD(cells + LANES);
    f32x8 grad_hidden = BUILD(load_some)(grad_outputs, task->num_units - panel * LANES) + LOAD(grad_state);
    f32x8 grad_output_gate = grad_hidden * tanh_cell * output_gate * (1.0f - output_gate);
    f32x8 grad_cell = LOAD(grad_cells) + grad_hidden * output_gate * (1.0f - tanh_cell * tanh_cell);
    if (task->peepholes != NULL) grad_cell += LOAD(task->peepholes + 2 * width + panel * LANES) * grad_output_gate;
    f32x8 grad_input_gate = grad_cell * cell_gate * input_gate * (1.0f - input_gate);
    f32x8 grad_forget_gate = grad_cell * cell_before * forget_gate * (1.0f - forget_gate);
    f32x8 grad_cell_before = grad_cell * forget_gate;
    if (task->peepholes != NULL) {
        const float *peepholes = task->peepholes + panel * LANES;
        float *grad_peepholes = task->grad_peepholes + panel * LANES;
        grad_cell_before += LOAD(peepholes) * grad_input_gate + LOAD(peepholes + width) * grad_forget_gate;
        STORE(grad_peepholes, LOAD(grad_peepholes) + grad_input_gate * cell_before);
        STORE(grad_peepholes + width, LOAD(grad_peepholes + width) + grad_forget_gate * cell_before);
        STORE(grad_peepholes + 2 * width, LOAD(grad_peepholes + 2 * width) + grad_output_gate * cell);
    }
    STORE(grad_cells, grad_cell_before);
    STORE(grad_gates, grad_input_gate);
    STORE(grad_gates + LANES, grad_forget_gate);
    STORE(grad_gates + 2 * LANES, grad_cell * input_gate * (1.0f - cell_gate * cell_gate));
    STORE(grad_gates + 3 * LANES, grad_output_gate);
}

static void BUILD(run_backward)(const Task *task) {
    const Py_ssize_t panels = task->num_panels, width = panels * LANES, tiles = (task->num_units - 1) / TILE + 1;
    const Py_ssize_t steps = task->num_steps;
    const int64_t *sizes = task->batch_sizes;
    Py_ssize_t first = task->is_reversed ? 0 : task->num_frames - sizes[steps - 1];
    for (Py_ssize_t i = 0; i < steps; i++) {
        /* From the direction's last step to its first; `before` and `num_before` are those of Rows. */
        const Py_ssize_t t = task->is_reversed ? i : steps - 1 - i;
        Py_ssize_t before = 0, num_before = 0;
        if (i + 1 < steps) {
            before = task->is_reversed ? first + sizes[t] : first - sizes[t - 1];
            num_before = task->is_reversed ? sizes[t + 1] : sizes[t];
        }
        for (Py_ssize_t r = 0; r < sizes[t]; r++) {
            const float *cells_before = task->cells + (before + r) * 2 * width;
            for (Py_ssize_t panel = 0; panel < panels; panel++) {
                const float *cell_before = r < num_before ? cells_before + panel * BUILD(cell_floats) : NULL;
                BUILD(step_back)(task, panel, first + r, r, cell_before);
            }
        }
        const float *grad_gates = task->grad_gates + first * 4 * width;
        for (Py_ssize_t k = 0; k < 4 * width; k += BLOCK) {
            const Py_ssize_t depth = 4 * width - k < BLOCK ? 4 * width - k : BLOCK;
            for (Py_ssize_t j = 0; j < tiles; j++) {
                const float *weights = task->weights + (j * 4 * width + k) * TILE;
                BUILD(multiply)(num_before, depth, grad_gates + k, 4 * width, weights, task->grad_state + j * TILE,
                                tiles * TILE, k > 0);
            }
        }
        first = before;
    }
}

#undef LOAD
#undef STORE
#undef INLINE
