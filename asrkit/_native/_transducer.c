/* The transducer's loss (Graves 2012) and its gradients: the kernel of asrkit.models.transducer_lattice.
 *
 * An utterance of T steps and U tokens has a node for each step t and each number u of tokens emitted so far. From node
 * (t, u) a path continues to (t + 1, u) with a blank, or to (t, u + 1) with token u. It ends with the blank of
 * (T - 1, U).
 *
 * The nodes of one diagonal, t + u = d, do not depend on each other, so vectors hold neighbours on a diagonal. Arrays
 * of nodes are (T + U + 1, stride), with node (t, u) at row t + u and column u. Places without a node hold NEVER. All
 * sums over paths are natural logs in double precision.
 */
#include "common.h"

typedef float f32x4 __attribute__((vector_size(16)));
typedef float f32x4u __attribute__((vector_size(16), aligned(4), may_alias));

#define MARGIN 4 /* columns that vectors reach beyond the nodes */

/* One utterance. */
typedef struct {
    Py_ssize_t num_steps, num_tokens, num_classes;
    bool is_double;
    const void *logits;    /* (T, U + 1, V) */
    void *grads;           /* the same, or NULL */
    const int64_t *tokens; /* (U,) */
} Task;

typedef struct {
    Py_ssize_t stride;
    double *memory, *blank, *token, *before; /* by diagonal: emissions at a node, paths to it */
    double *after;                           /* two diagonals */
    double *shares;                          /* (T, U + 1) 1 / sum of e^(x - largest x) */
} Lattice;

#define KERNEL_LOOPS "_transducer_loops.h"
#include "builds.h"

/* False if there is not enough memory. */
static bool prepare(const Task *task, Lattice *lattice) {
    const size_t stride = task->num_tokens + 2 + MARGIN, rows = task->num_steps + task->num_tokens + 1;
    lattice->stride = stride;
    lattice->memory = NULL;
    if (stride > PTRDIFF_MAX / 8 / sizeof(double) / (rows + 1)) return false;
    const size_t size = rows * stride + MARGIN, num_filled = 3 * size + 2 * stride + MARGIN;
    lattice->memory = malloc((num_filled + (size_t)task->num_steps * (task->num_tokens + 1)) * sizeof(double));
    if (lattice->memory == NULL) return false;
    for (size_t i = 0; i < num_filled; i++) lattice->memory[i] = NEVER;
    lattice->blank = lattice->memory + MARGIN;
    lattice->token = lattice->blank + size;
    lattice->before = lattice->token + size;
    lattice->after = lattice->before + size;
    lattice->shares = lattice->memory + num_filled;
    lattice->before[0] = 0.0;
    return true;
}

/* True if all indices that the loops use lie within their arrays; otherwise sets an exception. */
static bool is_sound(const Array *logits, const Array *num_steps, const Array *tokens, const Array *num_tokens,
                     const Array *losses, const Array *grads) {
    const Py_ssize_t *shape = logits->view.shape, num_utts = num_steps->view.shape[0];
    if (num_tokens->view.shape[0] != num_utts || losses->view.shape[0] != num_utts) {
        PyErr_SetString(PyExc_ValueError, "transducer: arrays of utterances differ in length");
        return false;
    }
    if (is_given(grads) && (grads->view.shape[0] != shape[0] || grads->view.shape[1] != shape[1] ||
                            grads->view.itemsize != logits->view.itemsize)) {
        PyErr_SetString(PyExc_ValueError, "transducer: grads are not like logits");
        return false;
    }
    Py_ssize_t nodes_left = shape[0], tokens_left = tokens->view.shape[0];
    bool fits = shape[1] > 0;
    for (Py_ssize_t n = 0; n < num_utts && fits; n++) {
        const int64_t steps = ((const int64_t *)num_steps->view.buf)[n], length = ((const int64_t *)num_tokens->view.buf)[n];
        fits = steps > 0 && length >= 0 && length <= tokens_left && length < nodes_left &&
               steps <= nodes_left / (length + 1);
        if (fits) nodes_left -= steps * (length + 1), tokens_left -= length;
    }
    if (!fits || nodes_left != 0 || tokens_left != 0) {
        PyErr_SetString(PyExc_ValueError, "transducer: logits and tokens do not fit the numbers of steps and tokens");
        return false;
    }
    for (Py_ssize_t i = 0; i < tokens->view.shape[0]; i++) {
        const int64_t token = ((const int64_t *)tokens->view.buf)[i];
        if (token < 1 || token >= shape[1]) {
            PyErr_SetString(PyExc_ValueError, "transducer: a token that is the blank or outside the classes");
            return false;
        }
    }
    return true;
}

/* Stops and returns false if there is not enough memory. */
static bool run(const Array *logits, const Array *num_steps, const Array *tokens, const Array *num_tokens,
                const Array *losses, const Array *grads) {
    const Py_ssize_t item = logits->view.itemsize;
    Task task = {.num_classes = logits->view.shape[1],
                 .is_double = item == sizeof(double),
                 .logits = logits->view.buf,
                 .grads = grads->view.buf,
                 .tokens = tokens->view.buf};
    for (Py_ssize_t n = 0; n < num_steps->view.shape[0]; n++) {
        task.num_steps = ((const int64_t *)num_steps->view.buf)[n];
        task.num_tokens = ((const int64_t *)num_tokens->view.buf)[n];
        Lattice lattice;
        if (!prepare(&task, &lattice)) return false;
        const double loss = PICK(loss)(&task, &lattice);
        free(lattice.memory);
        ((double *)losses->view.buf)[n] = loss;
        const Py_ssize_t size = task.num_steps * (task.num_tokens + 1) * task.num_classes;
        for (Py_ssize_t i = 0; i < size && !isfinite(loss) && task.grads != NULL; i++) {
            if (task.is_double) {
                ((double *)task.grads)[i] = NAN;
            } else {
                ((float *)task.grads)[i] = NAN;
            }
        }
        task.logits = (const char *)task.logits + size * item;
        if (task.grads != NULL) task.grads = (char *)task.grads + size * item;
        task.tokens += task.num_tokens;
    }
    return true;
}

PyDoc_STRVAR(losses_doc,
             "losses(logits, num_steps, tokens, num_tokens, losses, grads)\n\n"
             "logits (R, V) float32 or float64: the T (U + 1) nodes of each of N utterances, token after token within a\n"
             "step; class 0 is the blank. num_steps (N,), num_tokens (N,) and tokens, of all utterances, int64. Fills\n"
             "losses (N,) float64 with -log p(tokens), and grads (as logits, or None) with its gradients. A loss is inf\n"
             "if no path is possible, and NaN if logits are not numbers; its gradients are then NaN.");

static PyObject *losses(PyObject *Py_UNUSED(module), PyObject *args) {
    Array logits = {.name = "logits", .kinds = "fd", .ndim = 2};
    Array num_steps = {.name = "num_steps", .kinds = "q", .ndim = 1};
    Array tokens = {.name = "tokens", .kinds = "q", .ndim = 1};
    Array num_tokens = {.name = "num_tokens", .kinds = "q", .ndim = 1};
    Array found = {.name = "losses", .kinds = "d", .ndim = 1, .is_written = true};
    Array grads = {.name = "grads", .kinds = "fd", .ndim = 2, .is_written = true, .may_be_none = true};
    if (!PyArg_ParseTuple(args, "O&O&O&O&O&O&:losses", take_array, &logits, take_array, &num_steps, take_array, &tokens,
                          take_array, &num_tokens, take_array, &found, take_array, &grads))
        return NULL;
    PyObject *result = NULL;
    if (is_sound(&logits, &num_steps, &tokens, &num_tokens, &found, &grads)) {
        bool is_done;
        Py_BEGIN_ALLOW_THREADS;
        is_done = run(&logits, &num_steps, &tokens, &num_tokens, &found, &grads);
        Py_END_ALLOW_THREADS;
        result = is_done ? Py_NewRef(Py_None) : PyErr_NoMemory();
    }
    for (Array **array = (Array *[]){&logits, &num_steps, &tokens, &num_tokens, &found, &grads, NULL}; *array != NULL;
         array++)
        release_array(*array);
    return result;
}

static PyMethodDef methods[] = {
    {"losses", losses, METH_VARARGS, losses_doc},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)choose_build}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "asrkit._native._transducer", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__transducer(void) { return PyModuleDef_Init(&definition); }
