/* An LSTM layer, forwards and backwards in time, and the matrix products around it: the kernel of
 * asrkit.models.lstm_kernel.
 *
 * N utterances, F frames in all, T steps, H hidden units, P = ceil(H / 8) panels, Hp = 8 P, J = ceil(H / 32).
 *
 * Frames are packed as cuDNN does it: step by step, within a step by descending length of the utterances. So the rows
 * of a step lie together, row r belongs to the same utterance in all steps, and padding does not exist. The direction
 * that runs backwards visits the same rows from the last step to the first; utterances come in as they begin.
 *
 * Units are padded to whole vectors. All that belongs to eight units, a panel, lies together:
 *
 *     gates  (F, P, 4, 8)  input, forget, cell, output; before and after their nonlinearities
 *     cells  (F, P, 2, 8)  the state and its tanh
 *     states (F, Hp)       the output of the step before, 0 in an utterance's first
 *
 * The right side of a product comes in tiles of 32 columns, (number of tiles, depth, 32):
 *
 *     forward weights  (P, H, 32)     from the units to the 32 gates of a panel
 *     backward weights (J, 4 Hp, 32)  from the gates to 32 units
 *
 * Every row is summed up in the same order, however many there are: an utterance's result does not depend on its batch.
 */
#include "common.h"

#define LANES 8
#define TILE 32      /* columns of a product that are computed together */
#define BLOCK 128    /* terms of a product for which a tile's weights stay in the first cache */

typedef struct {
    Py_ssize_t num_rows, num_frames, num_steps, num_units, num_panels, num_outputs;
    const int64_t *batch_sizes; /* (T,) rows in each step, not increasing */
    bool is_reversed;
    const float *weights;
    const float *peepholes; /* (3, Hp) input, forget, output; or NULL */
    float *gates, *cells;
    float *states, *outputs;                        /* forward only; outputs at this direction's first column */
    const float *grad_outputs;                      /* backward only, like the rest */
    float *grad_gates, *grad_peepholes, *grad_cell; /* grad_cell (N, Hp): what reaches the states of the step before */
    float *grad_state;                              /* (N, 32 J) */
} Task;

#define KERNEL_LOOPS "_lstm_loops.h"
#include "builds.h"

static bool has_size(const Py_buffer *view, const Py_ssize_t *shape) {
    for (int i = 0; i < view->ndim; i++) {
        if (view->shape[i] != shape[i]) return false;
    }
    return true;
}

/* Reads the sizes; true when every index that the loops will form lies within its array, else sets an exception. */
static bool read_sizes(Task *task, const Py_buffer *sizes, const Py_buffer *gates, const Py_buffer *outputs,
                       Py_ssize_t column, Py_ssize_t num_units) {
    task->batch_sizes = sizes->buf;
    task->num_steps = sizes->shape[0];
    task->num_frames = gates->shape[0];
    task->num_units = num_units;
    task->num_panels = gates->shape[1];
    task->num_outputs = outputs->shape[1];
    Py_ssize_t left = task->num_frames;
    bool is_sound = task->num_steps > 0;
    for (Py_ssize_t t = 0; t < task->num_steps; t++) {
        int64_t size = task->batch_sizes[t];
        is_sound = is_sound && size > 0 && size <= left && (t == 0 || size <= task->batch_sizes[t - 1]);
        if (is_sound) left -= size;
    }
    if (!is_sound || left != 0) {
        PyErr_SetString(PyExc_ValueError, "lstm: batch_sizes must fall, be above 0 and add up to the frames");
        return false;
    }
    task->num_rows = task->batch_sizes[0];
    if (num_units < 1 || task->num_panels != (num_units - 1) / LANES + 1 || outputs->shape[0] != task->num_frames ||
        column < 0 || column > task->num_outputs - num_units) {
        PyErr_SetString(PyExc_ValueError, "lstm: gates and outputs do not fit the number of units");
        return false;
    }
    return true;
}

typedef struct {
    const char *name;
    int ndim;
    bool is_writable, is_optional;
} Expected;

/* Opens the arrays; returns how many were opened before the first fault. Optional ones may be None: `buf` is NULL. */
static int open_arrays(PyObject *const *args, const Expected *expected, int number, Py_buffer *views) {
    for (int i = 0; i < number; i++) {
        if (expected[i].is_optional && args[i] == Py_None) {
            memset(&views[i], 0, sizeof(Py_buffer));
            continue;
        }
        const char *kinds = strcmp(expected[i].name, "batch_sizes") == 0 ? "q" : "f";
        if (get_array(args[i], &views[i], kinds, expected[i].ndim, expected[i].is_writable, expected[i].name) < 0)
            return i;
    }
    return number;
}

static bool read_scalars(PyObject *const *args, Py_ssize_t *num_units, Py_ssize_t *column, bool *is_reversed) {
    *num_units = PyLong_AsSsize_t(args[0]);
    *column = PyLong_AsSsize_t(args[1]);
    int truth = PyObject_IsTrue(args[2]);
    *is_reversed = truth == 1;
    return !PyErr_Occurred();
}

static PyObject *not_fitting(const char *name) {
    return PyErr_Format(PyExc_ValueError, "lstm: %s does not fit the other arrays", name);
}

PyDoc_STRVAR(forward_doc,
             "forward(batch_sizes, weights, peepholes, gates, cells, states, outputs, num_units, column, is_reversed)\n\n"
             "One direction of a layer. batch_sizes (T,) int64, the rest float32: weights (P, H, 32), peepholes (3, Hp)\n"
             "or None. gates (F, P, 4, 8) hold the inputs' part and become the gates; fills cells (F, P, 2, 8), states\n"
             "(F, Hp) and num_units columns of outputs (F, O) from `column` on.");

static PyObject *forward(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t num_args) {
    static const Expected expected[] = {{"batch_sizes", 1, false, false}, {"weights", 3, false, false},
                                        {"peepholes", 2, false, true},    {"gates", 4, true, false},
                                        {"cells", 4, true, false},        {"states", 2, true, false},
                                        {"outputs", 2, true, false}};
    enum { NUMBER = 7 };
    if (num_args != NUMBER + 3) return PyErr_Format(PyExc_TypeError, "forward: %zd arguments; expected 10", num_args);
    Py_buffer views[NUMBER];
    PyObject *result = NULL;
    int number = open_arrays(args, expected, NUMBER, views);
    if (number < NUMBER) goto done;
    Task task = {0};
    Py_ssize_t num_units, column;
    if (!read_scalars(args + NUMBER, &num_units, &column, &task.is_reversed)) goto done;
    if (!read_sizes(&task, &views[0], &views[3], &views[6], column, num_units)) goto done;
    const Py_ssize_t frames = task.num_frames, panels = task.num_panels;
    const Py_ssize_t shapes[][4] = {{task.num_steps}, {panels, num_units, TILE}, {3, panels * LANES},
                                    {frames, panels, 4, LANES}, {frames, panels, 2, LANES}, {frames, panels * LANES}};
    for (int i = 1; i < 6; i++) {
        if (views[i].buf != NULL && !has_size(&views[i], shapes[i])) {
            not_fitting(expected[i].name);
            goto done;
        }
    }
    task.weights = views[1].buf;
    task.peepholes = views[2].buf;
    task.gates = views[3].buf;
    task.cells = views[4].buf;
    task.states = views[5].buf;
    task.outputs = (float *)views[6].buf + column;
    Py_BEGIN_ALLOW_THREADS;
    PICK(run_forward)(&task);
    Py_END_ALLOW_THREADS;
    result = Py_NewRef(Py_None);
done:
    while (number > 0) PyBuffer_Release(&views[--number]);
    return result;
}

PyDoc_STRVAR(backward_doc,
             "backward(batch_sizes, weights, peepholes, gates, cells, grad_outputs, grad_gates, grad_peepholes,\n"
             "         num_units, column, is_reversed)\n\n"
             "Gradients of what `forward` computed. weights (J, 4 Hp, 32); gates and cells as it left them; grad_outputs\n"
             "(F, O) as outputs. Fills grad_gates (F, P, 4, 8), before the nonlinearities, and grad_peepholes (3, Hp).");

static PyObject *backward(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t num_args) {
    static const Expected expected[] = {{"batch_sizes", 1, false, false}, {"weights", 3, false, false},
                                        {"peepholes", 2, false, true},    {"gates", 4, false, false},
                                        {"cells", 4, false, false},       {"grad_outputs", 2, false, false},
                                        {"grad_gates", 4, true, false},   {"grad_peepholes", 2, true, true}};
    enum { NUMBER = 8 };
    if (num_args != NUMBER + 3) return PyErr_Format(PyExc_TypeError, "backward: %zd arguments; expected 11", num_args);
    Py_buffer views[NUMBER];
    PyObject *result = NULL;
    int number = open_arrays(args, expected, NUMBER, views);
    if (number < NUMBER) goto done;
    Task task = {0};
    Py_ssize_t num_units, column;
    if (!read_scalars(args + NUMBER, &num_units, &column, &task.is_reversed)) goto done;
    if (!read_sizes(&task, &views[0], &views[3], &views[5], column, num_units)) goto done;
    const Py_ssize_t frames = task.num_frames, panels = task.num_panels, tiles = (num_units - 1) / TILE + 1;
    const Py_ssize_t shapes[][4] = {{task.num_steps}, {tiles, 4 * panels * LANES, TILE}, {3, panels * LANES},
                                    {frames, panels, 4, LANES}, {frames, panels, 2, LANES}, {frames, task.num_outputs},
                                    {frames, panels, 4, LANES}, {3, panels * LANES}};
    for (int i = 1; i < NUMBER; i++) {
        if (views[i].buf != NULL && !has_size(&views[i], shapes[i])) {
            not_fitting(expected[i].name);
            goto done;
        }
    }
    if ((views[2].buf == NULL) != (views[7].buf == NULL)) {
        not_fitting("grad_peepholes");
        goto done;
    }
    task.weights = views[1].buf;
    task.peepholes = views[2].buf;
    task.gates = views[3].buf;
    task.cells = views[4].buf;
    task.grad_outputs = (const float *)views[5].buf + column;
    task.grad_gates = views[6].buf;
    task.grad_peepholes = views[7].buf;
    task.grad_state = calloc(task.num_rows * (tiles * TILE + panels * LANES), sizeof(float));
    if (task.grad_state == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    task.grad_cell = task.grad_state + task.num_rows * tiles * TILE;
    Py_BEGIN_ALLOW_THREADS;
    if (task.peepholes != NULL) memset(task.grad_peepholes, 0, 3 * panels * LANES * sizeof(float));
    PICK(run_backward)(&task);
    Py_END_ALLOW_THREADS;
    free(task.grad_state);
    result = Py_NewRef(Py_None);
done:
    while (number > 0) PyBuffer_Release(&views[--number]);
    return result;
}

PyDoc_STRVAR(multiply_doc,
             "multiply(left, tiles, bias, product)\n\n"
             "Fills product (M, 32 J) with left (M, K) times tiles (J, K, 32) plus bias (32 J,), which may be None. float32.");

static PyObject *multiply(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t num_args) {
    static const Expected expected[] = {
        {"left", 2, false, false}, {"tiles", 3, false, false}, {"bias", 1, false, true}, {"product", 2, true, false}};
    enum { NUMBER = 4 };
    if (num_args != NUMBER) return PyErr_Format(PyExc_TypeError, "multiply: %zd arguments; expected 4", num_args);
    Py_buffer views[NUMBER];
    PyObject *result = NULL;
    int number = open_arrays(args, expected, NUMBER, views);
    if (number < NUMBER) goto done;
    const Py_ssize_t rows = views[0].shape[0], depth = views[0].shape[1], tiles = views[1].shape[0];
    const Py_ssize_t shapes[][3] = {{rows, depth}, {tiles, depth, TILE}, {tiles * TILE}, {rows, tiles * TILE}};
    for (int i = 1; i < NUMBER; i++) {
        if (views[i].buf != NULL && !has_size(&views[i], shapes[i])) {
            not_fitting(expected[i].name);
            goto done;
        }
    }
    Py_BEGIN_ALLOW_THREADS;
    PICK(run_multiply)(rows, depth, tiles, views[0].buf, views[1].buf, views[2].buf, views[3].buf);
    Py_END_ALLOW_THREADS;
    result = Py_NewRef(Py_None);
done:
    while (number > 0) PyBuffer_Release(&views[--number]);
    return result;
}

static PyMethodDef methods[] = {
    {"multiply", (PyCFunction)(void (*)(void))multiply, METH_FASTCALL, multiply_doc},
    {"forward", (PyCFunction)(void (*)(void))forward, METH_FASTCALL, forward_doc},
    {"backward", (PyCFunction)(void (*)(void))backward, METH_FASTCALL, backward_doc},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)choose_build}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "asrkit._native._lstm", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__lstm(void) { return PyModuleDef_Init(&definition); }
