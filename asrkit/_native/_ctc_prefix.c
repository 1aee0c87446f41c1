/* CTC's prefix scores (Watanabe et al. 2017, Hori et al. 2017) for many hypotheses: the kernel of
 * asrkit.decoding.ctc_prefix. The NumPy reference there defines the result, except for rounding. N utterances, K
 * prefixes per utterance, T frames, V classes. Sums over paths are natural logs in double precision. */
#include "common.h"

#define GROUP 4 /* prefixes that are scored together */

typedef struct {
    Py_ssize_t num_utts, num_parents, num_hyps, num_frames, num_classes;
    const double *log_probs;                /* (N, T, V) */
    const double *old_in_blank, *old_in_any; /* (N, number of parents, T + 1) */
    const int64_t *last;                    /* (N, number of parents) */
    const int64_t *parents, *tokens;        /* (N, K) */
    double *in_blank, *in_any;              /* (N, K, T + 1) */
} Extension;

typedef struct {
    Py_ssize_t num_utts, num_hyps, num_frames, num_classes;
    Py_ssize_t num_padded;           /* V, and classes of probability 0: whole pairs of vectors */
    const double *log_probs, *probs; /* (N, T, V) and (N, T, num_padded) */
    const double *in_blank, *in_any; /* (N, K, T + 1) */
    const int64_t *last;             /* (N, K) */
    double *scores;                  /* (N, K, V) */
    Py_ssize_t share_row;            /* T in whole vectors */
    double *shares, *paths, *sums;   /* (GROUP, share_row), (share_row,), (GROUP, num_padded) */
} Scores;

#define KERNEL_LOOPS "_ctc_prefix_loops.h"
#include "builds.h"

static bool has_shape(const Array *array, const Py_ssize_t *shape) {
    for (int axis = 0; axis < array->ndim; axis++) {
        if (array->view.shape[axis] == shape[axis]) continue;
        PyErr_Format(PyExc_ValueError, "ctc_prefix: %s has %zd entries in dimension %d; expected %zd", array->name,
                     array->view.shape[axis], axis, shape[axis]);
        return false;
    }
    return true;
}
#define HAS_SHAPE(array, ...) has_shape(array, (const Py_ssize_t[]){__VA_ARGS__})

/* Whether all numbers of an int64 array are at least 0 and below `end`. */
static bool is_below(const Array *array, Py_ssize_t end) {
    const int64_t *numbers = array->view.buf;
    for (Py_ssize_t i = 0; i < array->view.len / (Py_ssize_t)sizeof(int64_t); i++) {
        if (numbers[i] >= 0 && numbers[i] < end) continue;
        PyErr_Format(PyExc_ValueError, "ctc_prefix: %s has %lld; expected numbers below %zd", array->name,
                     (long long)numbers[i], end);
        return false;
    }
    return true;
}

PyDoc_STRVAR(extend_doc,
             "extend(log_probs, old_in_blank, old_in_any, last, parents, tokens, in_blank, in_any)\n\n"
             "Fills in_blank and in_any (N, K, T + 1) with the paths of the prefixes `parents` (N, K), each extended by\n"
             "one of the phones `tokens` (N, K). log_probs is (N, T, V), old_in_blank and old_in_any are (N, P, T + 1),\n"
             "last is (N, P). Numbers are float64, phones and parents int64.");

static PyObject *extend(PyObject *Py_UNUSED(module), PyObject *args) {
    Array log_probs = {.name = "log_probs", .kinds = "d", .ndim = 3};
    Array old_in_blank = {.name = "old_in_blank", .kinds = "d", .ndim = 3};
    Array old_in_any = {.name = "old_in_any", .kinds = "d", .ndim = 3};
    Array last = {.name = "last", .kinds = "q", .ndim = 2};
    Array parents = {.name = "parents", .kinds = "q", .ndim = 2};
    Array tokens = {.name = "tokens", .kinds = "q", .ndim = 2};
    Array in_blank = {.name = "in_blank", .kinds = "d", .ndim = 3, .is_written = true};
    Array in_any = {.name = "in_any", .kinds = "d", .ndim = 3, .is_written = true};
    if (!PyArg_ParseTuple(args, "O&O&O&O&O&O&O&O&:extend", take_array, &log_probs, take_array, &old_in_blank,
                          take_array, &old_in_any, take_array, &last, take_array, &parents, take_array, &tokens,
                          take_array, &in_blank, take_array, &in_any))
        return NULL;
    const Extension task = {.num_utts = parents.view.shape[0],
                            .num_parents = last.view.shape[1],
                            .num_hyps = parents.view.shape[1],
                            .num_frames = log_probs.view.shape[1],
                            .num_classes = log_probs.view.shape[2],
                            .log_probs = log_probs.view.buf,
                            .old_in_blank = old_in_blank.view.buf,
                            .old_in_any = old_in_any.view.buf,
                            .last = last.view.buf,
                            .parents = parents.view.buf,
                            .tokens = tokens.view.buf,
                            .in_blank = in_blank.view.buf,
                            .in_any = in_any.view.buf};
    const Py_ssize_t row = task.num_frames + 1;
    PyObject *result = NULL;
    if (HAS_SHAPE(&log_probs, task.num_utts, task.num_frames, task.num_classes) &&
        HAS_SHAPE(&old_in_blank, task.num_utts, task.num_parents, row) &&
        HAS_SHAPE(&old_in_any, task.num_utts, task.num_parents, row) &&
        HAS_SHAPE(&last, task.num_utts, task.num_parents) && HAS_SHAPE(&tokens, task.num_utts, task.num_hyps) &&
        HAS_SHAPE(&in_blank, task.num_utts, task.num_hyps, row) &&
        HAS_SHAPE(&in_any, task.num_utts, task.num_hyps, row) && is_below(&parents, task.num_parents) &&
        is_below(&tokens, task.num_classes)) {
        Py_BEGIN_ALLOW_THREADS;
        PICK(extend)(&task);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    for (Array **array = (Array *[]){&log_probs, &old_in_blank, &old_in_any, &last, &parents, &tokens, &in_blank,
                                     &in_any, NULL};
         *array != NULL; array++)
        release_array(*array);
    return result;
}

/* False if there is not enough memory. */
static bool run_score(Scores *task) {
    task->share_row = (task->num_frames + 3) / 4 * 4;
    const size_t number = (GROUP + 1) * (size_t)task->share_row + GROUP * (size_t)task->num_padded;
    task->shares = calloc(number + 1, sizeof(double)); /* what a group lacks is computed, but not used */
    if (task->shares == NULL) return false;
    task->paths = task->shares + GROUP * task->share_row;
    task->sums = task->paths + task->share_row;
    PICK(score)(task);
    free(task->shares);
    return true;
}

PyDoc_STRVAR(next_scores_doc,
             "next_scores(log_probs, probs, in_blank, in_any, last, scores)\n\n"
             "Fills scores (N, K, V) with the log probability that the labelling begins with each prefix and one more\n"
             "phone. log_probs is (N, T, V), probs (N, T, P) with zeros from class V on, P a multiple of 8; in_blank and\n"
             "in_any are (N, K, T + 1), last is (N, K) int64. All others are float64.");

static PyObject *next_scores(PyObject *Py_UNUSED(module), PyObject *args) {
    Array log_probs = {.name = "log_probs", .kinds = "d", .ndim = 3};
    Array probs = {.name = "probs", .kinds = "d", .ndim = 3};
    Array in_blank = {.name = "in_blank", .kinds = "d", .ndim = 3};
    Array in_any = {.name = "in_any", .kinds = "d", .ndim = 3};
    Array last = {.name = "last", .kinds = "q", .ndim = 2};
    Array scores = {.name = "scores", .kinds = "d", .ndim = 3, .is_written = true};
    if (!PyArg_ParseTuple(args, "O&O&O&O&O&O&:next_scores", take_array, &log_probs, take_array, &probs, take_array,
                          &in_blank, take_array, &in_any, take_array, &last, take_array, &scores))
        return NULL;
    Scores task = {.num_utts = scores.view.shape[0],
                   .num_hyps = scores.view.shape[1],
                   .num_frames = log_probs.view.shape[1],
                   .num_classes = scores.view.shape[2],
                   .num_padded = probs.view.shape[2],
                   .log_probs = log_probs.view.buf,
                   .probs = probs.view.buf,
                   .in_blank = in_blank.view.buf,
                   .in_any = in_any.view.buf,
                   .last = last.view.buf,
                   .scores = scores.view.buf};
    const Py_ssize_t row = task.num_frames + 1;
    PyObject *result = NULL;
    if (task.num_classes < 1 || task.num_padded < task.num_classes || task.num_padded % 8 != 0) {
        PyErr_SetString(PyExc_ValueError, "ctc_prefix: no classes, or probs that are not padded to a multiple of 8");
    } else if (HAS_SHAPE(&log_probs, task.num_utts, task.num_frames, task.num_classes) &&
               HAS_SHAPE(&probs, task.num_utts, task.num_frames, task.num_padded) &&
               HAS_SHAPE(&in_blank, task.num_utts, task.num_hyps, row) &&
               HAS_SHAPE(&in_any, task.num_utts, task.num_hyps, row) &&
               HAS_SHAPE(&last, task.num_utts, task.num_hyps) && is_below(&last, task.num_classes)) {
        bool is_done;
        Py_BEGIN_ALLOW_THREADS;
        is_done = run_score(&task);
        Py_END_ALLOW_THREADS;
        result = is_done ? Py_NewRef(Py_None) : PyErr_NoMemory();
    }
    for (Array **array = (Array *[]){&log_probs, &probs, &in_blank, &in_any, &last, &scores, NULL}; *array != NULL;
         array++)
        release_array(*array);
    return result;
}

static PyMethodDef methods[] = {
    {"extend", extend, METH_VARARGS, extend_doc},
    {"next_scores", next_scores, METH_VARARGS, next_scores_doc},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)choose_build}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "asrkit._native._ctc_prefix", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__ctc_prefix(void) { return PyModuleDef_Init(&definition); }
