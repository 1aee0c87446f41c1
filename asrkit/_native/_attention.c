/* Scores of additive attention for many hypotheses: the kernel of asrkit.models.search_attention. The NumPy reference
 * there defines the result, except for rounding. N utterances, K hypotheses per utterance, H heads, T steps, A
 * attention size, C channels of the filters, W their width. */
#include "common.h"

typedef struct {
    Py_ssize_t num_utts, num_hyps, num_heads, num_steps, share; /* share: A / H */
    Py_ssize_t num_channels, width;
    const float *weight;   /* (H, A / H) */
    const float *filters;  /* (C, H, W) */
    const float *location; /* (C, A) */
    const float *keys;     /* (N, T, A) */
    const float *query;    /* (N, K, A) */
    const float *previous; /* (N, K, H, T), or NULL */
    float *scores;         /* (N, K, H, T) */
    Py_ssize_t channel_row; /* C, rounded up to whole vectors */
    float *kernels;         /* (H, W, channel_row): the filters, then zeros */
    float *features;        /* (T, channel_row) of one hypothesis */
} Task;

#define KERNEL_LOOPS "_attention_loops.h"
#include "builds.h"

static bool has_shape(const Array *array, const Py_ssize_t *shape) {
    for (int axis = 0; axis < array->ndim; axis++) {
        if (array->view.shape[axis] == shape[axis]) continue;
        PyErr_Format(PyExc_ValueError, "additive_scores: %s has %zd entries in dimension %d; expected %zd", array->name,
                     array->view.shape[axis], axis, shape[axis]);
        return false;
    }
    return true;
}
#define HAS_SHAPE(array, ...) has_shape(array, (const Py_ssize_t[]){__VA_ARGS__})

PyDoc_STRVAR(additive_scores_doc,
             "additive_scores(weight, filters, location, keys, query, previous, scores)\n\n"
             "Fills scores (N, K, H, T) from weight (H, A / H), filters (C, H, W), location (C, A), keys (N, T, A),\n"
             "query (N, K, A) and previous (N, K, H, T), which can be None: then filters and location have no influence.\n"
             "All are float32.");

static PyObject *additive_scores(PyObject *Py_UNUSED(module), PyObject *args) {
    Array weight = {.name = "weight", .kinds = "f", .ndim = 2};
    Array filters = {.name = "filters", .kinds = "f", .ndim = 3};
    Array location = {.name = "location", .kinds = "f", .ndim = 2};
    Array keys = {.name = "keys", .kinds = "f", .ndim = 3};
    Array query = {.name = "query", .kinds = "f", .ndim = 3};
    Array previous = {.name = "previous", .kinds = "f", .ndim = 4, .may_be_none = true};
    Array scores = {.name = "scores", .kinds = "f", .ndim = 4, .is_written = true};
    if (!PyArg_ParseTuple(args, "O&O&O&O&O&O&O&:additive_scores", take_array, &weight, take_array, &filters, take_array,
                          &location, take_array, &keys, take_array, &query, take_array, &previous, take_array, &scores))
        return NULL;
    Task task = {.num_utts = scores.view.shape[0],
                 .num_hyps = scores.view.shape[1],
                 .num_heads = scores.view.shape[2],
                 .num_steps = scores.view.shape[3],
                 .share = weight.view.shape[1],
                 .num_channels = is_given(&previous) ? filters.view.shape[0] : 0,
                 .width = filters.view.shape[2],
                 .weight = weight.view.buf,
                 .filters = filters.view.buf,
                 .location = location.view.buf,
                 .keys = keys.view.buf,
                 .query = query.view.buf,
                 .previous = previous.view.buf,
                 .scores = scores.view.buf};
    PyObject *result = NULL;
    if (task.num_heads < 1 || task.share < 1 || task.num_heads > PY_SSIZE_T_MAX / task.share) {
        PyErr_SetString(PyExc_ValueError, "additive_scores: no heads, or heads without a share");
        goto done;
    }
    const Py_ssize_t size = task.num_heads * task.share;
    if (!HAS_SHAPE(&weight, task.num_heads, task.share) || !HAS_SHAPE(&keys, task.num_utts, task.num_steps, size) ||
        !HAS_SHAPE(&query, task.num_utts, task.num_hyps, size))
        goto done;
    if (is_given(&previous) &&
        (!HAS_SHAPE(&previous, task.num_utts, task.num_hyps, task.num_heads, task.num_steps) ||
         !HAS_SHAPE(&filters, task.num_channels, task.num_heads, task.width) ||
         !HAS_SHAPE(&location, task.num_channels, size)))
        goto done;
    task.channel_row = (task.num_channels + 7) / 8 * 8;
    if (task.channel_row > 0) {
        const Py_ssize_t most = PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(float) / task.channel_row;
        if (task.num_steps > most || (task.width > 0 && task.num_heads > most / task.width)) {
            PyErr_NoMemory();
            goto done;
        }
    }
    task.kernels = calloc(task.num_heads * task.width * task.channel_row + 1, sizeof(float));
    task.features = malloc((task.num_steps * task.channel_row + 1) * sizeof(float));
    if (task.kernels != NULL && task.features != NULL) {
        Py_BEGIN_ALLOW_THREADS;
        for (Py_ssize_t c = 0; c < task.num_channels; c++) {
            for (Py_ssize_t i = 0; i < task.num_heads * task.width; i++)
                task.kernels[i * task.channel_row + c] = task.filters[c * task.num_heads * task.width + i];
        }
        PICK(score_all)(&task);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    } else {
        PyErr_NoMemory();
    }
    free(task.kernels);
    free(task.features);
done:
    release_array(&weight), release_array(&filters), release_array(&location), release_array(&keys);
    release_array(&query), release_array(&previous), release_array(&scores);
    return result;
}

static PyMethodDef methods[] = {
    {"additive_scores", additive_scores, METH_VARARGS, additive_scores_doc},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)choose_build}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "asrkit._native._attention", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__attention(void) { return PyModuleDef_Init(&definition); }
