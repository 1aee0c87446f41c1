/* An LSTM layer, forwards and backwards in time, and the matrix products around it: the kernel of
 * asrkit.models.lstm_kernel.
 *
 * N utterances, F frames in all, T steps, H hidden units, P = ceil(H / 8) panels, Hp = 8 P, J = ceil(H / 32).
 *
 * Frames are packed as in cuDNN: step by step, and within a step by descending length of the utterances. So the rows of
 * a step are neighbours, row r belongs to the same utterance in all steps, and there is no padding. The backward
 * direction visits the same rows from the last step to the first. An utterance joins at its last step.
 *
 * Units are padded to whole vectors. The numbers of eight units, a panel, are neighbours:
 *
 *     gates  (F, P, 4, 8)  input, forget, cell, output; before and after their nonlinearities
 *     cells  (F, P, 2, 8)  the state and its tanh
 *     states (F, Hp)       the output of the previous step, 0 in the first step of an utterance
 *
 * The right side of a product comes in tiles of 32 columns, (number of tiles, depth, 32):
 *
 *     forward weights  (P, H, 32)     from the units to the 32 gates of a panel
 *     backward weights (J, 4 Hp, 32)  from the gates to 32 units
 *
 * The terms of a row are always summed in the same order. So the result of an utterance does not depend on its batch.
 */
#include "common.h"

#define TILE 32      /* columns of a product that are computed together */
#define BLOCK 128    /* terms of a product: so many rows of a tile's weights fit into the first-level cache */

typedef struct {
    Py_ssize_t num_rows, num_frames, num_steps, num_units, num_panels, num_outputs;
    const int64_t *batch_sizes; /* (T,) rows in each step, not increasing */
    bool is_reversed;
    const float *weights;
    const float *peepholes; /* (3, Hp) input, forget, output; or NULL */
    float *gates, *cells;
    float *states, *outputs;                        /* forward only; outputs from this direction's first column on */
    const float *grad_outputs;                      /* backward only, like the rest */
    float *grad_gates, *grad_peepholes, *grad_cell; /* grad_cell (N, Hp): gradients of the cells of the previous step */
    float *grad_state;                              /* (N, 32 J) */
} Task;

#define KERNEL_LOOPS "_lstm_loops.h"
#include "builds.h"

/* Whether an array is NULL or has this shape; otherwise sets an exception. */
static bool fits(const Array *array, const Py_ssize_t *shape) {
    for (int i = 0; is_given(array) && i < array->ndim; i++) {
        if (array->view.shape[i] != shape[i]) {
            PyErr_Format(PyExc_ValueError, "lstm: %s does not fit the other arrays", array->name);
            return false;
        }
    }
    return true;
}
#define FITS(array, ...) fits(array, (const Py_ssize_t[]){__VA_ARGS__})

/* Reads the sizes. True if all indices that the loops use lie within their arrays; otherwise sets an exception. */
static bool read_sizes(Task *task, const Array *batch_sizes, const Array *gates, const Array *outputs,
                       Py_ssize_t column) {
    task->batch_sizes = batch_sizes->view.buf;
    task->num_steps = batch_sizes->view.shape[0];
    task->num_frames = gates->view.shape[0];
    task->num_panels = gates->view.shape[1];
    task->num_outputs = outputs->view.shape[1];
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
    if (task->num_units < 1 || task->num_panels != (task->num_units - 1) / LANES + 1 ||
        outputs->view.shape[0] != task->num_frames || column < 0 || column > task->num_outputs - task->num_units) {
        PyErr_SetString(PyExc_ValueError, "lstm: gates and outputs do not fit the number of units");
        return false;
    }
    return true;
}

PyDoc_STRVAR(forward_doc,
             "forward(batch_sizes, weights, peepholes, gates, cells, states, outputs, num_units, column, is_reversed)\n\n"
             "One direction of a layer. batch_sizes (T,) int64, the rest float32: weights (P, H, 32), peepholes (3, Hp)\n"
             "or None. gates (F, P, 4, 8) hold the sums of the inputs and become the gates. Fills cells (F, P, 2, 8), states\n"
             "(F, Hp) and num_units columns of outputs (F, O) from `column` on.");

static PyObject *forward(PyObject *Py_UNUSED(module), PyObject *args) {
    Array batch_sizes = {.name = "batch_sizes", .kinds = "q", .ndim = 1};
    Array weights = {.name = "weights", .kinds = "f", .ndim = 3};
    Array peepholes = {.name = "peepholes", .kinds = "f", .ndim = 2, .may_be_none = true};
    Array gates = {.name = "gates", .kinds = "f", .ndim = 4, .is_written = true};
    Array cells = {.name = "cells", .kinds = "f", .ndim = 4, .is_written = true};
    Array states = {.name = "states", .kinds = "f", .ndim = 2, .is_written = true};
    Array outputs = {.name = "outputs", .kinds = "f", .ndim = 2, .is_written = true};
    Task task = {0};
    Py_ssize_t column;
    int is_reversed;
    if (!PyArg_ParseTuple(args, "O&O&O&O&O&O&O&nnp:forward", take_array, &batch_sizes, take_array, &weights, take_array,
                          &peepholes, take_array, &gates, take_array, &cells, take_array, &states, take_array, &outputs,
                          &task.num_units, &column, &is_reversed))
        return NULL;
    PyObject *result = NULL;
    if (!read_sizes(&task, &batch_sizes, &gates, &outputs, column)) goto done;
    const Py_ssize_t frames = task.num_frames, panels = task.num_panels;
    if (!FITS(&weights, panels, task.num_units, TILE) || !FITS(&peepholes, 3, panels * LANES) ||
        !FITS(&gates, frames, panels, 4, LANES) || !FITS(&cells, frames, panels, 2, LANES) ||
        !FITS(&states, frames, panels * LANES))
        goto done;
    task.is_reversed = is_reversed;
    task.weights = weights.view.buf;
    task.peepholes = peepholes.view.buf;
    task.gates = gates.view.buf;
    task.cells = cells.view.buf;
    task.states = states.view.buf;
    task.outputs = (float *)outputs.view.buf + column;
    Py_BEGIN_ALLOW_THREADS;
    PICK(run_forward)(&task);
    Py_END_ALLOW_THREADS;
    result = Py_NewRef(Py_None);
done:
    for (Array **array = (Array *[]){&batch_sizes, &weights, &peepholes, &gates, &cells, &states, &outputs, NULL};
         *array != NULL; array++)
        release_array(*array);
    return result;
}

PyDoc_STRVAR(backward_doc,
             "backward(batch_sizes, weights, peepholes, gates, cells, grad_outputs, grad_gates, grad_peepholes,\n"
             "         num_units, column, is_reversed)\n\n"
             "Gradients of `forward`. weights (J, 4 Hp, 32), gates and cells as after `forward`, grad_outputs\n"
             "(F, O) like outputs. Fills grad_gates (F, P, 4, 8), before the nonlinearities, and grad_peepholes (3, Hp).");

static PyObject *backward(PyObject *Py_UNUSED(module), PyObject *args) {
    Array batch_sizes = {.name = "batch_sizes", .kinds = "q", .ndim = 1};
    Array weights = {.name = "weights", .kinds = "f", .ndim = 3};
    Array peepholes = {.name = "peepholes", .kinds = "f", .ndim = 2, .may_be_none = true};
    Array gates = {.name = "gates", .kinds = "f", .ndim = 4};
    Array cells = {.name = "cells", .kinds = "f", .ndim = 4};
    Array grad_outputs = {.name = "grad_outputs", .kinds = "f", .ndim = 2};
    Array grad_gates = {.name = "grad_gates", .kinds = "f", .ndim = 4, .is_written = true};
    Array grad_peepholes = {.name = "grad_peepholes", .kinds = "f", .ndim = 2, .is_written = true, .may_be_none = true};
    Task task = {0};
    Py_ssize_t column;
    int is_reversed;
    if (!PyArg_ParseTuple(args, "O&O&O&O&O&O&O&O&nnp:backward", take_array, &batch_sizes, take_array, &weights,
                          take_array, &peepholes, take_array, &gates, take_array, &cells, take_array, &grad_outputs,
                          take_array, &grad_gates, take_array, &grad_peepholes, &task.num_units, &column, &is_reversed))
        return NULL;
    PyObject *result = NULL;
    if (!read_sizes(&task, &batch_sizes, &gates, &grad_outputs, column)) goto done;
    const Py_ssize_t frames = task.num_frames, panels = task.num_panels, tiles = (task.num_units - 1) / TILE + 1;
    if (!FITS(&weights, tiles, 4 * panels * LANES, TILE) || !FITS(&peepholes, 3, panels * LANES) ||
        !FITS(&gates, frames, panels, 4, LANES) || !FITS(&cells, frames, panels, 2, LANES) ||
        !FITS(&grad_gates, frames, panels, 4, LANES) || !FITS(&grad_peepholes, 3, panels * LANES))
        goto done;
    if (is_given(&peepholes) != is_given(&grad_peepholes)) {
        PyErr_SetString(PyExc_ValueError, "lstm: peepholes and grad_peepholes are both arrays or both None");
        goto done;
    }
    task.is_reversed = is_reversed;
    task.weights = weights.view.buf;
    task.peepholes = peepholes.view.buf;
    task.gates = gates.view.buf;
    task.cells = cells.view.buf;
    task.grad_outputs = (const float *)grad_outputs.view.buf + column;
    task.grad_gates = grad_gates.view.buf;
    task.grad_peepholes = grad_peepholes.view.buf;
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
    for (Array **array = (Array *[]){&batch_sizes, &weights, &peepholes, &gates, &cells, &grad_outputs, &grad_gates,
                                     &grad_peepholes, NULL};
         *array != NULL; array++)
        release_array(*array);
    return result;
}

PyDoc_STRVAR(multiply_doc,
             "multiply(left, tiles, bias, product)\n\n"
             "Fills product (M, 32 J) with left (M, K) times tiles (J, K, 32) plus bias (32 J,) or None. float32.");

static PyObject *multiply(PyObject *Py_UNUSED(module), PyObject *args) {
    Array left = {.name = "left", .kinds = "f", .ndim = 2};
    Array tiles = {.name = "tiles", .kinds = "f", .ndim = 3};
    Array bias = {.name = "bias", .kinds = "f", .ndim = 1, .may_be_none = true};
    Array product = {.name = "product", .kinds = "f", .ndim = 2, .is_written = true};
    if (!PyArg_ParseTuple(args, "O&O&O&O&:multiply", take_array, &left, take_array, &tiles, take_array, &bias,
                          take_array, &product))
        return NULL;
    const Py_ssize_t rows = left.view.shape[0], depth = left.view.shape[1], num_tiles = tiles.view.shape[0];
    const bool is_sound = FITS(&tiles, num_tiles, depth, TILE) && FITS(&bias, num_tiles * TILE) &&
                          FITS(&product, rows, num_tiles * TILE);
    if (is_sound) {
        Py_BEGIN_ALLOW_THREADS;
        PICK(run_multiply)(rows, depth, num_tiles, left.view.buf, tiles.view.buf, bias.view.buf, product.view.buf);
        Py_END_ALLOW_THREADS;
    }
    release_array(&left), release_array(&tiles), release_array(&bias), release_array(&product);
    return is_sound ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef methods[] = {
    {"multiply", multiply, METH_VARARGS, multiply_doc},
    {"forward", forward, METH_VARARGS, forward_doc},
    {"backward", backward, METH_VARARGS, backward_doc},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)choose_build}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "asrkit._native._lstm", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__lstm(void) { return PyModuleDef_Init(&definition); }
