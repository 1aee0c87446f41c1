/* MFCC, log mel filter banks, CMVN and deltas: the kernel of asrkit.features. The NumPy references there define the
 * results. T frames, D dimensions of the static features.
 *
 * This file has the tables and the functions that Python calls; the loops are in _mfcc_loops.h.
 */
#include "common.h"

#include <float.h>

#define MAX_SIZE (1 << 24) /* of a frame, a shift, the side of a matrix: products of two are far below 2^64 */
#define BLOCK_ROWS 64      /* frames whose deltas are computed at once, to stay in the cache */
#define CACHED 256         /* an FFT of this many points stays in the first-level cache */
#define VARIANCE_FLOOR 1e-20 /* as in features/cmvn.py */

typedef enum { NO_ENERGY, WINDOWED_ENERGY, RAW_ENERGY } Energy;

/* Settings and tables of the static features. `rest` is 1 - pre-emphasis. */
typedef struct {
    Py_ssize_t length, shift, fft_size; /* samples */
    Py_ssize_t num_bins, num_ceps, dim; /* num_ceps 0: log mel energies */
    bool remove_mean;
    Energy energy;
    float rest, log_energy_floor;
    float *window;             /* (length) */
    float *twiddles;           /* for each FFT size from fft_size / 2 down by 4, size / 4 times w, w^2, w^3 (re, im) */
    float *half_twiddles;      /* (fft_size / 4 + 1) times (re, im) */
    int32_t *position;         /* (fft_size / 2): where the FFT leaves each frequency */
    int32_t *first, *num_taps; /* (num_bins): each filter's FFT bins */
    float *taps;               /* weights of all filters, one after the other */
    float *dct;                /* (num_ceps, num_bins) */
} Plan;

/* A moving window over audio: frame t starts at sample first + t * shift. Samples outside the audio are mirrored. */
typedef struct {
    const float *samples;
    Py_ssize_t num_samples, first;
} Audio;

/* From static features to full ones: (x - mean) * scale unless `mean` is NULL, then deltas. */
typedef struct {
    Py_ssize_t dim;
    float *mean, *scale; /* (dim) each, in one block that begins at `mean` */
    int order, window;
} FullTask;

static void *allocate(Py_ssize_t num_floats) {
    size_t bytes = ((size_t)num_floats * sizeof(float) / 64 + 1) * 64;
    return aligned_alloc(64, bytes);
}

/* Copy samples `begin` to `end` of audio that is mirrored at both ends. */
static void copy_mirrored(const Audio *audio, Py_ssize_t begin, Py_ssize_t end, float *out) {
    const Py_ssize_t num_samples = audio->num_samples, period = 2 * num_samples;
    for (Py_ssize_t i = begin; i < end;) {
        if (i >= 0 && i < num_samples) {
            const Py_ssize_t stop = end < num_samples ? end : num_samples;
            memcpy(out + (i - begin), audio->samples + i, (stop - i) * sizeof(float));
            i = stop;
            continue;
        }
        const Py_ssize_t phase = (i % period + period) % period;
        out[i - begin] = audio->samples[phase < num_samples ? phase : period - 1 - phase];
        i++;
    }
}

#define KERNEL_LOOPS "_mfcc_loops.h"
#include "builds.h"

static void free_plan(Plan *plan) {
    free(plan->window);
    free(plan->twiddles);
    free(plan->half_twiddles);
    free(plan->position);
    free(plan->first);
    free(plan->num_taps);
    free(plan->taps);
    free(plan->dct);
    free(plan);
}

/* The place of frequency k after an FFT over `size` points: radix 4 down to 2 or 1, in place. */
static int32_t position_of(int32_t k, int32_t size) {
    int32_t position = 0;
    while (size > 1) {
        int32_t radix = size == 2 ? 2 : 4;
        size /= radix;
        position += k % radix * size;
        k /= radix;
    }
    return position;
}

/* Fill the plan's tables. Returns false if there is not enough memory. */
static bool fill_tables(Plan *plan, const float *window, const float *filters, const float *dct) {
    const double pi = 3.14159265358979323846;
    const Py_ssize_t num_points = plan->fft_size / 2;
    Py_ssize_t num_taps = 0;
    plan->window = malloc(plan->length * sizeof(float));
    plan->twiddles = malloc((2 * num_points + 8) * sizeof(float));
    plan->half_twiddles = malloc((num_points + 2) * sizeof(float));
    plan->position = malloc(num_points * sizeof(int32_t));
    plan->first = malloc(plan->num_bins * sizeof(int32_t));
    plan->num_taps = malloc(plan->num_bins * sizeof(int32_t));
    plan->dct = malloc((plan->num_ceps * plan->num_bins + 1) * sizeof(float));
    if (!plan->window || !plan->twiddles || !plan->half_twiddles || !plan->position || !plan->first ||
        !plan->num_taps || !plan->dct)
        return false;

    memcpy(plan->window, window, plan->length * sizeof(float));
    if (dct != NULL) memcpy(plan->dct, dct, plan->num_ceps * plan->num_bins * sizeof(float));
    float *twiddle = plan->twiddles;
    for (Py_ssize_t size = num_points; size > 4; size /= 4) {
        for (Py_ssize_t j = 0; j < size / 4; j++) {
            for (int power = 1; power <= 3; power++) {
                double angle = -2.0 * pi * (double)(power * j) / (double)size;
                *twiddle++ = (float)cos(angle);
                *twiddle++ = (float)sin(angle);
            }
        }
    }
    for (Py_ssize_t k = 0; k <= num_points / 2; k++) {
        double angle = -2.0 * pi * (double)k / (double)plan->fft_size;
        plan->half_twiddles[2 * k] = (float)cos(angle);
        plan->half_twiddles[2 * k + 1] = (float)sin(angle);
    }
    for (Py_ssize_t k = 0; k < num_points; k++) plan->position[k] = position_of((int32_t)k, (int32_t)num_points);

    for (Py_ssize_t bin = 0; bin < plan->num_bins; bin++) {
        const float *filter = filters + bin * num_points;
        Py_ssize_t begin = 0, end = num_points;
        while (begin < end && filter[begin] == 0.0f) begin++;
        while (end > begin && filter[end - 1] == 0.0f) end--;
        plan->first[bin] = (int32_t)begin;
        plan->num_taps[bin] = (int32_t)(end - begin);
        num_taps += end - begin;
    }
    float *tap = plan->taps = malloc((num_taps + 1) * sizeof(float));
    if (tap == NULL) return false;
    for (Py_ssize_t bin = 0; bin < plan->num_bins; bin++) {
        /* The FFT gives twice the spectrum, so its power is four times too large. */
        for (int32_t i = 0; i < plan->num_taps[bin]; i++)
            *tap++ = 0.25f * filters[bin * num_points + plan->first[bin] + i];
    }
    return true;
}

static const char *const PLAN = "asrkit._native._mfcc.plan";

static void delete_plan(PyObject *capsule) { free_plan(PyCapsule_GetPointer(capsule, PLAN)); }

/* A converter for PyArg_ParseTuple's O&, to a `const Plan *`. */
static int take_plan(PyObject *object, void *address) {
    const Plan *plan = PyCapsule_GetPointer(object, PLAN);
    *(const Plan **)address = plan;
    return plan != NULL;
}

/* Whether an array has these numbers of rows and columns; otherwise sets an exception. */
static bool has_shape(const Array *array, Py_ssize_t num_rows, Py_ssize_t num_columns) {
    const Py_ssize_t *shape = array->view.shape;
    if (shape[0] == num_rows && shape[1] == num_columns) return true;
    PyErr_Format(PyExc_ValueError, "%s: an array of %zd x %zd; expected %zd x %zd", array->name, shape[0], shape[1],
                 num_rows, num_columns);
    return false;
}

static bool is_within(Py_ssize_t value, Py_ssize_t least, Py_ssize_t most) { return value >= least && value <= most; }

/* Check the sizes on which the indices of the loops depend; set an exception if they are wrong. */
static bool is_sound_plan(const Plan *plan, const Array *filters, const Array *dct) {
    const bool is_power_of_two = plan->fft_size > 0 && (plan->fft_size & (plan->fft_size - 1)) == 0;
    if (is_power_of_two && is_within(plan->fft_size, 4, MAX_SIZE) && is_within(plan->length, 1, plan->fft_size) &&
        is_within(plan->shift, 1, MAX_SIZE) && is_within(plan->num_bins, 1, plan->fft_size) &&
        is_within(plan->num_ceps, is_given(dct) ? 1 : 0, plan->num_bins) &&
        is_within((Py_ssize_t)plan->energy, NO_ENERGY, RAW_ENERGY))
        return has_shape(filters, plan->num_bins, plan->fft_size / 2) &&
               (!is_given(dct) || has_shape(dct, plan->num_ceps, plan->num_bins));
    PyErr_SetString(PyExc_ValueError, "plan: sizes that do not go together");
    return false;
}

PyDoc_STRVAR(
    plan_doc,
    "plan(shift, fft_size, rest, remove_mean, energy, log_energy_floor, window, filters, dct) -> plan\n\n"
    "Settings and tables for `static` and `full`. rest: 1 - pre-emphasis; energy: 0 none, 1 of the windowed frame,\n"
    "2 of the frame before pre-emphasis; window (length,), filters (num_bins, fft_size / 2) and dct\n"
    "(num_ceps, num_bins) or None for log mel energies, all float32.");

static PyObject *make_plan(PyObject *Py_UNUSED(module), PyObject *args) {
    Plan sizes = {0};
    int remove_mean, energy;
    Array window = {.name = "window", .kinds = "f", .ndim = 1};
    Array filters = {.name = "filters", .kinds = "f", .ndim = 2};
    Array dct = {.name = "dct", .kinds = "f", .ndim = 2, .may_be_none = true};
    if (!PyArg_ParseTuple(args, "nnfpifO&O&O&:plan", &sizes.shift, &sizes.fft_size, &sizes.rest, &remove_mean, &energy,
                          &sizes.log_energy_floor, take_array, &window, take_array, &filters, take_array, &dct))
        return NULL;
    sizes.length = window.view.shape[0];
    sizes.num_bins = filters.view.shape[0];
    sizes.num_ceps = is_given(&dct) ? dct.view.shape[0] : 0;
    sizes.remove_mean = remove_mean;
    sizes.energy = (Energy)energy;
    sizes.dim = sizes.num_ceps > 0 ? sizes.num_ceps : sizes.num_bins + (sizes.energy != NO_ENERGY);

    PyObject *capsule = NULL;
    if (is_sound_plan(&sizes, &filters, &dct)) {
        Plan *plan = calloc(1, sizeof(Plan));
        if (plan != NULL) *plan = sizes;
        if (plan == NULL || !fill_tables(plan, window.view.buf, filters.view.buf, dct.view.buf)) {
            PyErr_NoMemory();
        } else {
            capsule = PyCapsule_New(plan, PLAN, delete_plan);
        }
        if (plan != NULL && capsule == NULL) free_plan(plan);
    }
    release_array(&window);
    release_array(&filters);
    release_array(&dct);
    return capsule;
}

/* Check that the indices of the frames do not overflow; set an exception if they do. */
static bool is_in_reach(const Plan *plan, const Audio *audio, Py_ssize_t num_frames) {
    const Py_ssize_t far = PY_SSIZE_T_MAX / 8;
    if (is_within(audio->num_samples, 1, far) && is_within(audio->first, -far, far) &&
        is_within(num_frames, 0, far / plan->shift))
        return true;
    PyErr_SetString(PyExc_ValueError, "frames without samples, or out of reach");
    return false;
}

PyDoc_STRVAR(static_doc,
             "static(plan, samples, first, out) -> bool\n\n"
             "Static features of the frames that start at samples first, first + shift, ...: fills out (T, D) float32\n"
             "from samples (n,) float32, mirrored at both ends. False: not all are finite.");

static PyObject *compute_static(PyObject *Py_UNUSED(module), PyObject *args) {
    const Plan *plan;
    Py_ssize_t first;
    Array samples = {.name = "samples", .kinds = "f", .ndim = 1};
    Array out = {.name = "out", .kinds = "f", .ndim = 2, .is_written = true};
    if (!PyArg_ParseTuple(args, "O&O&nO&:static", take_plan, &plan, take_array, &samples, &first, take_array, &out))
        return NULL;
    const Audio audio = {samples.view.buf, samples.view.shape[0], first};
    const Py_ssize_t num_frames = out.view.shape[0];

    PyObject *result = NULL;
    if (has_shape(&out, num_frames, plan->dim) && is_in_reach(plan, &audio, num_frames)) {
        int status;
        Py_BEGIN_ALLOW_THREADS;
        status = PICK(static_frames)(plan, &audio, num_frames, out.view.buf);
        Py_END_ALLOW_THREADS;
        result = status < 0 ? PyErr_NoMemory() : PyBool_FromLong(status);
    }
    release_array(&samples);
    release_array(&out);
    return result;
}

/* Normalise by Kaldi's CMVN statistics (2, D + 1): set the mean and the scale, computed as in NumPy. Returns false if
 * there is not enough memory. */
static bool set_normalization(FullTask *task, const double *stats, bool norm_vars) {
    const Py_ssize_t dim = task->dim;
    const double count = stats[dim];
    task->mean = malloc(2 * dim * sizeof(float));
    if (task->mean == NULL) return false;
    task->scale = task->mean + dim;
    for (Py_ssize_t d = 0; d < dim; d++) {
        double mean = stats[d] / count, variance = stats[dim + 1 + d] / count - mean * mean;
        task->mean[d] = (float)mean;
        task->scale[d] = norm_vars ? (float)(1.0 / sqrt(variance > VARIANCE_FLOOR ? variance : VARIANCE_FLOOR)) : 1.0f;
    }
    return true;
}

/* Check the sizes of a task, of its output, and of statistics if given; set an exception if they are wrong. */
static bool is_sound_task(const FullTask *task, Py_ssize_t num_frames, const Array *stats, const Array *out) {
    if (!is_within(task->order, 0, 1000) || !is_within(task->window, 1, MAX_SIZE / 1001) ||
        !is_within(task->dim, 1, MAX_SIZE / 1001)) {
        PyErr_SetString(PyExc_ValueError, "deltas: sizes that do not go together");
        return false;
    }
    return has_shape(out, num_frames, task->dim * (task->order + 1)) &&
           (!is_given(stats) || has_shape(stats, 2, task->dim + 1));
}

PyDoc_STRVAR(full_features_doc,
             "full_features(feats, stats, norm_vars, order, window, out)\n\n"
             "CMVN by stats (2, D + 1) float64 (None: no CMVN), then deltas. Fills out (T, D * (order + 1)) from\n"
             "feats (T, D), both float32.");

static PyObject *compute_full_features(PyObject *Py_UNUSED(module), PyObject *args) {
    FullTask task = {0};
    int norm_vars;
    Array feats = {.name = "feats", .kinds = "f", .ndim = 2};
    Array stats = {.name = "stats", .kinds = "d", .ndim = 2, .may_be_none = true};
    Array out = {.name = "out", .kinds = "f", .ndim = 2, .is_written = true};
    if (!PyArg_ParseTuple(args, "O&O&piiO&:full_features", take_array, &feats, take_array, &stats, &norm_vars,
                          &task.order, &task.window, take_array, &out))
        return NULL;
    const Py_ssize_t num_frames = feats.view.shape[0];
    task.dim = feats.view.shape[1];

    PyObject *result = NULL;
    if (is_sound_task(&task, num_frames, &stats, &out)) {
        bool is_done = !is_given(&stats) || set_normalization(&task, stats.view.buf, norm_vars);
        Py_BEGIN_ALLOW_THREADS;
        is_done = is_done && PICK(full_feature_frames)(&task, feats.view.buf, num_frames, out.view.buf);
        Py_END_ALLOW_THREADS;
        result = is_done ? Py_NewRef(Py_None) : PyErr_NoMemory();
        free(task.mean);
    }
    release_array(&feats);
    release_array(&stats);
    release_array(&out);
    return result;
}

PyDoc_STRVAR(accumulate_doc,
             "accumulate(feats, stats)\n\n"
             "Fills stats (2, D + 1) float64 with Kaldi's CMVN statistics of feats (T, D) float32.");

static PyObject *accumulate(PyObject *Py_UNUSED(module), PyObject *args) {
    Array feats = {.name = "feats", .kinds = "f", .ndim = 2};
    Array stats = {.name = "stats", .kinds = "d", .ndim = 2, .is_written = true};
    if (!PyArg_ParseTuple(args, "O&O&:accumulate", take_array, &feats, take_array, &stats)) return NULL;
    const Py_ssize_t num_frames = feats.view.shape[0], dim = feats.view.shape[1];

    PyObject *result = NULL;
    if (has_shape(&stats, 2, dim + 1)) {
        Py_BEGIN_ALLOW_THREADS;
        PICK(add_up)(feats.view.buf, num_frames, dim, stats.view.buf);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    release_array(&feats);
    release_array(&stats);
    return result;
}

/* The normalisation of `full`. If `stats` is NULL, it takes the statistics of the frames themselves. */
typedef struct {
    bool is_used, norm_vars;
    const double *stats;
} Cmvn;

/* Static features, CMVN and deltas in one call. Returns 1, 0: not all are finite, -1: no memory. */
static int full_frames(const Plan *plan, const Audio *audio, Py_ssize_t num_frames, const Cmvn *cmvn, FullTask *task,
                       float *out) {
    const Py_ssize_t dim = plan->dim;
    float *feats = allocate(num_frames * dim);
    double *own_stats = malloc(2 * (dim + 1) * sizeof(double));
    int status = -1;
    if (feats != NULL && own_stats != NULL) status = PICK(static_frames)(plan, audio, num_frames, feats);
    if (status == 1) {
        if (cmvn->is_used && cmvn->stats == NULL) PICK(add_up)(feats, num_frames, dim, own_stats);
        const double *stats = cmvn->stats != NULL ? cmvn->stats : own_stats;
        bool is_done = !cmvn->is_used || set_normalization(task, stats, cmvn->norm_vars);
        is_done = is_done && PICK(full_feature_frames)(task, feats, num_frames, out);
        if (!is_done) status = -1;
    }
    free(feats);
    free(own_stats);
    free(task->mean);
    return status;
}

PyDoc_STRVAR(full_doc,
             "full(plan, samples, first, cmvn, norm_vars, stats, order, window, out) -> bool\n\n"
             "`static` and `full_features` in one call. Fills out (T, D * (order + 1)). cmvn: whether to normalise; if\n"
             "stats is None, by the statistics of these frames. False: not all static features are finite.");

static PyObject *compute_full(PyObject *Py_UNUSED(module), PyObject *args) {
    const Plan *plan;
    Py_ssize_t first;
    int normalizes, norm_vars;
    FullTask task = {0};
    Array samples = {.name = "samples", .kinds = "f", .ndim = 1};
    Array stats = {.name = "stats", .kinds = "d", .ndim = 2, .may_be_none = true};
    Array out = {.name = "out", .kinds = "f", .ndim = 2, .is_written = true};
    if (!PyArg_ParseTuple(args, "O&O&nppO&iiO&:full", take_plan, &plan, take_array, &samples, &first, &normalizes,
                          &norm_vars, take_array, &stats, &task.order, &task.window, take_array, &out))
        return NULL;
    const Audio audio = {samples.view.buf, samples.view.shape[0], first};
    const Cmvn cmvn = {normalizes, norm_vars, stats.view.buf};
    const Py_ssize_t num_frames = out.view.shape[0];
    task.dim = plan->dim;

    PyObject *result = NULL;
    if (is_sound_task(&task, num_frames, &stats, &out) && is_in_reach(plan, &audio, num_frames)) {
        int status;
        Py_BEGIN_ALLOW_THREADS;
        status = full_frames(plan, &audio, num_frames, &cmvn, &task, out.view.buf);
        Py_END_ALLOW_THREADS;
        result = status < 0 ? PyErr_NoMemory() : PyBool_FromLong(status);
    }
    release_array(&samples);
    release_array(&stats);
    release_array(&out);
    return result;
}

static PyMethodDef methods[] = {
    {"plan", make_plan, METH_VARARGS, plan_doc},
    {"static", compute_static, METH_VARARGS, static_doc},
    {"full_features", compute_full_features, METH_VARARGS, full_features_doc},
    {"accumulate", accumulate, METH_VARARGS, accumulate_doc},
    {"full", compute_full, METH_VARARGS, full_doc},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)choose_build}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "asrkit._native._mfcc", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__mfcc(void) { return PyModuleDef_Init(&definition); }
