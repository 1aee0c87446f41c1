/* Viterbi over the blanks and tokens of a known labelling: the kernel of asrkit.decoding.forced_align. The NumPy
 * reference there defines the result. T frames, V classes, U tokens.
 *
 * Blanks and tokens are two lattices: token[u], and blank[u] before it, with blank[U] after the last token. No path
 * enters token[U], which gives both lattices the same length. These are the steps from one frame to the next, with the
 * numbers that `steps` stores. Of equal steps the first one wins.
 *
 *     token[u] <- 0: token[u], 1: blank[u], 2: token[u-1], and if the n tokens before u are optional,
 *                 2n + 1: blank[u-n], 2n + 2: token[u-n-1]
 *     blank[u] <- 0: blank[u], FROM_TOKEN: token[u-1]
 */
#include "common.h"

#define MAX_LANES 4
#define STEP_BLOCK (8 * MAX_LANES)
#define FROM_TOKEN 128
#define MAX_RUN 62 /* optional tokens in a row: 2 MAX_RUN + 2 fits beside FROM_TOKEN in a byte */
#define MAX_CELLS ((Py_ssize_t)1 << 30) /* frames times tokens, the bytes that the way back takes */
#define MAX_LOG_PROB 1e30 /* prevents overflow of sums */
#define PADDING 64 /* impossible states before the first, for steps that come from there: MAX_RUN + 1 or more */

typedef struct {
    Py_ssize_t num_frames, num_classes, num_tokens;
    bool is_double;
    const void *log_probs;   /* (T, V) float or double */
    const int64_t *tokens;   /* (U,) */
    const uint8_t *optional; /* (U,) 0 or 1 */
} Task;

typedef struct {
    Py_ssize_t width; /* of the lattices: above U, a multiple of MAX_LANES */
    Py_ssize_t row;   /* bytes of a frame in `steps` */
    int lane_bits;    /* log2 of the lanes of the vectors that wrote `steps` */
    bool has_optional;
    int max_run;      /* of optional tokens before another */
    double *allowed;  /* two rows for each n = 0 to max_run: 0 or -inf for the steps from blank[u-n] and token[u-n-1] */
    double *token[2], *blank[2]; /* the last two frames, each with PADDING before */
    int32_t *ids;                /* (width,) the tokens, then blanks up to the width */
    uint8_t *steps;              /* (T, row) one byte for both steps to [u], at step_index(u) */
} Lattice;

/* Each lane of 64 bits holds a step, in vectors of 2^lane_bits lanes. Eight vectors are stored as one, each shifted by
 * a byte. */
static inline size_t step_index(size_t u, int lane_bits) {
    size_t lane = u & (((size_t)1 << lane_bits) - 1), vector = u >> lane_bits & 7, block = u >> (lane_bits + 3);
    return (block << (lane_bits + 3)) + lane * 8 + vector;
}

#define KERNEL_LOOPS "_align_loops.h"
#include "builds.h"

static void release(Lattice *lattice) {
    free(lattice->allowed);
    free(lattice->ids);
    free(lattice->steps);
}

/* Allocate the lattice and set it to the state before the first frame: only the leading blank is possible, with log
 * probability 0. Returns false if there is not enough memory. */
static bool prepare(const Task *task, Lattice *lattice) {
    const int64_t *tokens = task->tokens;
    Py_ssize_t num_tokens = task->num_tokens, width = (num_tokens / MAX_LANES + 1) * MAX_LANES;
    int max_run = 0, run = 0;
    bool has_optional = false;
    for (Py_ssize_t u = 0; u < num_tokens; u++) {
        if (run > max_run) max_run = run;
        run = task->optional[u] ? run + 1 : 0;
        has_optional |= run > 0;
    }
    Py_ssize_t num_allowed = 2 * (max_run + 1) * width, entries = num_allowed + 4 * (PADDING + width);
    lattice->width = width;
    lattice->row = (width + STEP_BLOCK - 1) / STEP_BLOCK * STEP_BLOCK;
    lattice->has_optional = has_optional;
    lattice->max_run = max_run;
    lattice->allowed = malloc(entries * sizeof(double));
    lattice->ids = calloc(width, sizeof(int32_t));
    lattice->steps = malloc(task->num_frames * lattice->row + 1);
    if (lattice->allowed == NULL || lattice->ids == NULL || lattice->steps == NULL) return false;

    for (Py_ssize_t i = 0; i < entries; i++) lattice->allowed[i] = -INFINITY;
    double *rest = lattice->allowed + num_allowed + PADDING;
    for (int i = 0; i < 2; i++, rest += 2 * (PADDING + width)) {
        lattice->token[i] = rest;
        lattice->blank[i] = rest + PADDING + width;
    }
    lattice->blank[0][0] = 0.0;
    for (Py_ssize_t u = 0; u < num_tokens; u++) {
        lattice->ids[u] = (int32_t)tokens[u];
        for (Py_ssize_t n = 0; n <= max_run && n <= u && (n == 0 || task->optional[u - n]); n++) {
            lattice->allowed[2 * n * width + u] = 0.0;
            if (n < u && tokens[u - n - 1] != tokens[u]) lattice->allowed[(2 * n + 1) * width + u] = 0.0;
        }
    }
    return true;
}

/* Follow the best path back from the last frame, whose states are in `token` and `blank`. Returns the log probability
 * of the path. Tokens that it leaves out get start and end -1 and sum 0. */
static double trace(const Task *task, const Lattice *lattice, const double *token, const double *blank,
                    int64_t *starts, int64_t *ends, double *sums) {
    Py_ssize_t num_tokens = task->num_tokens, at = 0; /* the path is in token[at] or blank[at] */
    bool in_blank = true;
    double score = -INFINITY;
    for (Py_ssize_t end = num_tokens;; end--) { /* the tokens from `end` on are left out */
        if (end > 0 && token[end - 1] > score) score = token[end - 1], at = end - 1, in_blank = false;
        if (blank[end] > score) score = blank[end], at = end, in_blank = true;
        if (end == 0 || !task->optional[end - 1]) break;
    }
    for (Py_ssize_t u = 0; u < num_tokens; u++) starts[u] = ends[u] = -1, sums[u] = 0.0;
    if (!(score > -INFINITY)) return -INFINITY;

    for (Py_ssize_t t = task->num_frames - 1; t >= 0; t--) {
        int step = lattice->steps[t * lattice->row + step_index(at, lattice->lane_bits)];
        if (in_blank) {
            in_blank = !(step & FROM_TOKEN);
            at -= !in_blank;
            continue;
        }
        Py_ssize_t index = t * task->num_classes + task->tokens[at];
        sums[at] += task->is_double ? ((const double *)task->log_probs)[index] : ((const float *)task->log_probs)[index];
        starts[at] = t;
        if (ends[at] < 0) ends[at] = t + 1;
        step &= FROM_TOKEN - 1;
        in_blank = step & 1;
        at -= step / 2;
    }
    return score;
}

/* True if all indices that the loops use lie within their arrays; otherwise sets an exception. */
static bool is_sound(const Task *task, const Py_buffer *optional, const Py_buffer *spans, const Py_buffer *sums) {
    Py_ssize_t num_tokens = task->num_tokens, run = 0;
    if (optional->shape[0] != num_tokens || spans->shape[0] != 2 || spans->shape[1] != num_tokens ||
        sums->shape[0] != num_tokens) {
        PyErr_SetString(PyExc_ValueError, "viterbi: arrays of tokens differ in length");
        return false;
    }
    if (task->num_classes < 1 || task->num_classes > INT32_MAX) {
        PyErr_Format(PyExc_ValueError, "viterbi: log_probs of %zd classes", task->num_classes);
        return false;
    }
    for (Py_ssize_t u = 0; u < num_tokens; u++) {
        if (task->tokens[u] < 0 || task->tokens[u] >= task->num_classes) {
            PyErr_SetString(PyExc_ValueError, "viterbi: a token outside the classes");
            return false;
        }
        run = task->optional[u] ? run + 1 : 0;
        if (run > MAX_RUN) {
            PyErr_Format(PyExc_ValueError, "viterbi: more than %d optional tokens in a row", MAX_RUN);
            return false;
        }
    }
    if (num_tokens > MAX_CELLS || (task->num_frames > 0 && num_tokens > MAX_CELLS / task->num_frames)) {
        PyErr_Format(PyExc_ValueError, "viterbi: more than %zd frames times tokens", MAX_CELLS);
        return false;
    }
    return true;
}

PyDoc_STRVAR(viterbi_doc,
             "viterbi(log_probs, tokens, optional, spans, sums) -> float\n\n"
             "Log probability of the best path: -inf if there is none, NaN if log_probs hold NaN or a number above 1e30.\n"
             "log_probs (T, V) float32 or float64; tokens (U,) int64; optional (U,) uint8: can be left out. Fills\n"
             "spans (2, U) int64 with each token's first frame and the one after its last, -1 for tokens left out,\n"
             "and sums (U,) float64 with the log probability of its frames, unless there is NaN.");

static PyObject *viterbi(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t num_args) {
    static const struct {
        const char *name, *kinds;
        int ndim;
        bool writable;
    } expected[5] = {{"log_probs", "fd", 2, false}, {"tokens", "q", 1, false}, {"optional", "B", 1, false},
                     {"spans", "q", 2, true},       {"sums", "d", 1, true}};
    if (num_args != 5) return PyErr_Format(PyExc_TypeError, "viterbi: %zd arguments; expected 5", num_args);
    Py_buffer views[5];
    int num_views = 0;
    PyObject *result = NULL;
    for (; num_views < 5; num_views++) {
        if (get_array(args[num_views], &views[num_views], expected[num_views].kinds, expected[num_views].ndim,
                      expected[num_views].writable, expected[num_views].name) < 0)
            goto done;
    }
    Task task = {.num_frames = views[0].shape[0],
                 .num_classes = views[0].shape[1],
                 .num_tokens = views[1].shape[0],
                 .is_double = views[0].itemsize == sizeof(double),
                 .log_probs = views[0].buf,
                 .tokens = views[1].buf,
                 .optional = views[2].buf};
    if (!is_sound(&task, &views[2], &views[3], &views[4])) goto done;

    Lattice lattice;
    double score = NAN;
    bool is_ready;
    Py_BEGIN_ALLOW_THREADS;
    is_ready = prepare(&task, &lattice);
    if (is_ready && PICK(are_numbers)(&task)) {
        int last = PICK(search)(&task, &lattice);
        int64_t *starts = views[3].buf, *ends = starts + task.num_tokens;
        score = trace(&task, &lattice, lattice.token[last], lattice.blank[last], starts, ends, views[4].buf);
    }
    release(&lattice);
    Py_END_ALLOW_THREADS;
    result = is_ready ? PyFloat_FromDouble(score) : PyErr_NoMemory();
done:
    while (num_views > 0) PyBuffer_Release(&views[--num_views]);
    return result;
}

static PyMethodDef methods[] = {
    {"viterbi", (PyCFunction)(void (*)(void))viterbi, METH_FASTCALL, viterbi_doc},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)choose_build}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "asrkit._native._align", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__align(void) { return PyModuleDef_Init(&definition); }
