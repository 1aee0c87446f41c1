/* MFCC, log mel filter banks, CMVN and deltas: the kernel of asrkit.features, whose NumPy references define the
 * results. T frames, D dimensions of the static features.
 *
 * LANES frames are worked on at once, one in each lane of a vector, so that the FFT, the mel filters, the logarithm
 * and the cosine transform need no shuffling. A frame's result depends on its own samples alone, to the last bit:
 * neither on its lane nor on the frames around it. That is what lets a stream of audio give what the whole would.
 */
#ifndef BUILD

#include "common.h"

#include <float.h>

#define MAX_LANES 8
#define MAX_SIZE (1 << 24) /* of a frame, a shift, a matrix's side: products of two fit 64 bits with room to spare */
#define BLOCK_ROWS 64      /* frames whose deltas are worked out at once, to stay in the cache */
#define CACHED 256         /* an FFT of this many points stays in the first-level cache */
#define VARIANCE_FLOOR 1e-20

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

/* A moving window over audio: frame t starts at sample first + t * shift. Samples outside are those of the mirror
 * image. */
typedef struct {
    const float *samples;
    Py_ssize_t num_samples, first;
} Audio;

/* What add_deltas does to features: (x - mean) * scale unless `mean` is NULL, then deltas. */
typedef struct {
    Py_ssize_t dim;
    const float *mean, *scale; /* (dim) */
    int order, window;
} Full;

static void *allocate(Py_ssize_t num_floats) {
    size_t bytes = ((size_t)num_floats * sizeof(float) / 64 + 1) * 64;
    return aligned_alloc(64, bytes);
}

/* Copy samples `begin` to `end` of audio that is continued by its mirror image at both ends. */
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

#define KERNEL_FILE "_mfcc.c"
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

/* Where frequency k of an FFT over `size` points ends up: radix 4 down to 2 or 1, in place. */
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

/* Fill the plan's tables. Returns false when there is not enough memory. */
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
        /* The spectrum comes out doubled, so its power is four times what it should be. */
        for (int32_t i = 0; i < plan->num_taps[bin]; i++)
            *tap++ = 0.25f * filters[bin * num_points + plan->first[bin] + i];
    }
    return true;
}

static const char *const PLAN = "asrkit._native._mfcc.plan";

static void delete_plan(PyObject *capsule) { free_plan(PyCapsule_GetPointer(capsule, PLAN)); }

PyDoc_STRVAR(
    plan_doc,
    "plan(shift, fft_size, rest, remove_mean, energy, log_energy_floor, window, filters, dct) -> plan\n\n"
    "Settings and tables for `static` and `full`. rest: 1 - pre-emphasis; energy: 0 none, 1 of the windowed\n"
    "frame, 2 of the frame before pre-emphasis; window (length,), filters (num_bins, fft_size / 2) and dct\n"
    "(num_ceps, num_bins) or None for log mel energies, all float32.");

static PyObject *make_plan(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_ssize_t shift, fft_size;
    int remove_mean, energy;
    float rest, log_energy_floor;
    PyObject *window_array, *filters_array, *dct_array, *capsule = NULL;
    Py_buffer window, filters, dct = {0};
    if (!PyArg_ParseTuple(args, "nnfpifOOO:plan", &shift, &fft_size, &rest, &remove_mean, &energy, &log_energy_floor,
                          &window_array, &filters_array, &dct_array))
        return NULL;
    if (get_array(window_array, &window, "f", 1, false, "window") < 0) return NULL;
    if (get_array(filters_array, &filters, "f", 2, false, "filters") < 0) goto no_filters;
    if (dct_array != Py_None && get_array(dct_array, &dct, "f", 2, false, "dct") < 0) goto no_dct;

    const Py_ssize_t length = window.shape[0], num_bins = filters.shape[0];
    const Py_ssize_t num_ceps = dct_array == Py_None ? 0 : dct.shape[0];
    if (length < 1 || length > fft_size || fft_size < 4 || fft_size > MAX_SIZE || (fft_size & (fft_size - 1)) != 0 ||
        shift < 1 || shift > MAX_SIZE || num_bins < 1 || num_bins > fft_size || num_ceps > num_bins ||
        filters.shape[1] != fft_size / 2 || energy < NO_ENERGY || energy > RAW_ENERGY ||
        (dct_array != Py_None && (num_ceps < 1 || dct.shape[1] != num_bins))) {
        PyErr_SetString(PyExc_ValueError, "plan: sizes that do not go together");
        goto done;
    }
    Plan *plan = calloc(1, sizeof(Plan));
    if (plan == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    *plan = (Plan){.length = length,
                   .shift = shift,
                   .fft_size = fft_size,
                   .num_bins = num_bins,
                   .num_ceps = num_ceps,
                   .dim = num_ceps > 0 ? num_ceps : num_bins + (energy != NO_ENERGY),
                   .remove_mean = remove_mean,
                   .energy = (Energy)energy,
                   .rest = rest,
                   .log_energy_floor = log_energy_floor};
    if (!fill_tables(plan, window.buf, filters.buf, dct.buf)) {
        PyErr_NoMemory();
    } else {
        capsule = PyCapsule_New(plan, PLAN, delete_plan);
    }
    if (capsule == NULL) free_plan(plan);
done:
    if (dct_array != Py_None) PyBuffer_Release(&dct);
no_dct:
    PyBuffer_Release(&filters);
no_filters:
    PyBuffer_Release(&window);
    return capsule;
}

/* Check that the frames lie where every index can be formed; else set an exception. */
static bool is_sound(const Plan *plan, const Audio *audio, Py_ssize_t num_frames) {
    const Py_ssize_t far = PY_SSIZE_T_MAX / 8;
    if (audio->num_samples < 1 || audio->num_samples > far || audio->first < -far || audio->first > far ||
        num_frames > far / plan->shift) {
        PyErr_SetString(PyExc_ValueError, "frames without samples, or out of reach");
        return false;
    }
    return true;
}

PyDoc_STRVAR(static_doc,
             "static(plan, samples, first, out) -> bool\n\n"
             "Static features of the frames that start at samples first, first + shift, ...: fills out (T, D) float32\n"
             "from samples (n,) float32, continued by their mirror image at both ends. False: not all are finite.");

static PyObject *compute_static(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *capsule, *samples_array, *out_array, *result = NULL;
    Py_buffer samples, out;
    Audio audio;
    if (!PyArg_ParseTuple(args, "OOnO:static", &capsule, &samples_array, &audio.first, &out_array)) return NULL;
    const Plan *plan = PyCapsule_GetPointer(capsule, PLAN);
    if (plan == NULL) return NULL;
    if (get_array(samples_array, &samples, "f", 1, false, "samples") < 0) return NULL;
    if (get_array(out_array, &out, "f", 2, true, "out") < 0) goto no_out;

    audio.samples = samples.buf;
    audio.num_samples = samples.shape[0];
    if (out.shape[1] != plan->dim) {
        PyErr_Format(PyExc_ValueError, "static: out has %zd columns; expected %zd", out.shape[1], plan->dim);
    } else if (is_sound(plan, &audio, out.shape[0])) {
        int status;
        Py_BEGIN_ALLOW_THREADS;
        status = PICK(static_frames)(plan, &audio, out.shape[0], out.buf);
        Py_END_ALLOW_THREADS;
        result = status < 0 ? PyErr_NoMemory() : PyBool_FromLong(status);
    }
    PyBuffer_Release(&out);
no_out:
    PyBuffer_Release(&samples);
    return result;
}

/* Kaldi's CMVN statistics (2, D + 1) to what is subtracted, then multiplied, as NumPy works it out. */
static void normalization(const double *stats, Py_ssize_t dim, bool norm_vars, float *mean, float *scale) {
    const double count = stats[dim];
    for (Py_ssize_t d = 0; d < dim; d++) {
        double centre = stats[d] / count, variance = stats[dim + 1 + d] / count - centre * centre;
        mean[d] = (float)centre;
        scale[d] = norm_vars ? (float)(1.0 / sqrt(variance > VARIANCE_FLOOR ? variance : VARIANCE_FLOOR)) : 1.0f;
    }
}

static bool is_sound_full(const Full *task, Py_ssize_t out_dim) {
    if (task->order < 0 || task->order > 1000 || task->window < 1 || task->window > MAX_SIZE / 1001 ||
        task->dim < 1 || task->dim > MAX_SIZE / 1001 || out_dim != task->dim * (task->order + 1)) {
        PyErr_SetString(PyExc_ValueError, "deltas: sizes that do not go together");
        return false;
    }
    return true;
}

PyDoc_STRVAR(full_features_doc,
             "full_features(feats, stats, norm_vars, order, window, out)\n\n"
             "CMVN by stats (2, D + 1) float64, or none for None, then deltas: fills out (T, D * (order + 1)) from\n"
             "feats (T, D), both float32.");

static PyObject *compute_full_features(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *feats_array, *stats_array, *out_array, *result = NULL;
    Py_buffer feats, stats = {0}, out;
    Full task = {0};
    int norm_vars;
    float *norm = NULL;
    if (!PyArg_ParseTuple(args, "OOpiiO:full_features", &feats_array, &stats_array, &norm_vars, &task.order, &task.window,
                          &out_array))
        return NULL;
    if (get_array(feats_array, &feats, "f", 2, false, "feats") < 0) return NULL;
    if (get_array(out_array, &out, "f", 2, true, "out") < 0) goto no_out;
    if (stats_array != Py_None && get_array(stats_array, &stats, "d", 2, false, "stats") < 0) goto no_stats;

    task.dim = feats.shape[1];
    if (!is_sound_full(&task, out.shape[1])) goto done;
    if (out.shape[0] != feats.shape[0] ||
        (stats_array != Py_None && (stats.shape[0] != 2 || stats.shape[1] != task.dim + 1))) {
        PyErr_SetString(PyExc_ValueError, "full_features: arrays of other sizes");
        goto done;
    }
    if (stats_array != Py_None) {
        norm = malloc(2 * task.dim * sizeof(float));
        if (norm == NULL) {
            PyErr_NoMemory();
            goto done;
        }
        normalization(stats.buf, task.dim, norm_vars, norm, norm + task.dim);
        task.mean = norm;
        task.scale = norm + task.dim;
    }
    bool is_done;
    Py_BEGIN_ALLOW_THREADS;
    is_done = PICK(full_feature_frames)(&task, feats.buf, feats.shape[0], out.buf);
    Py_END_ALLOW_THREADS;
    free(norm);
    result = is_done ? Py_NewRef(Py_None) : PyErr_NoMemory();
done:
    if (stats_array != Py_None) PyBuffer_Release(&stats);
no_stats:
    PyBuffer_Release(&out);
no_out:
    PyBuffer_Release(&feats);
    return result;
}

PyDoc_STRVAR(accumulate_doc,
             "accumulate(feats, stats)\n\n"
             "Fills stats (2, D + 1) float64 with Kaldi's CMVN statistics of feats (T, D) float32.");

static PyObject *accumulate(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *feats_array, *stats_array, *result = NULL;
    Py_buffer feats, stats;
    if (!PyArg_ParseTuple(args, "OO:accumulate", &feats_array, &stats_array)) return NULL;
    if (get_array(feats_array, &feats, "f", 2, false, "feats") < 0) return NULL;
    if (get_array(stats_array, &stats, "d", 2, true, "stats") < 0) goto no_stats;
    if (stats.shape[0] != 2 || stats.shape[1] != feats.shape[1] + 1) {
        PyErr_SetString(PyExc_ValueError, "accumulate: arrays of other sizes");
    } else {
        Py_BEGIN_ALLOW_THREADS;
        PICK(add_up)(feats.buf, feats.shape[0], feats.shape[1], stats.buf);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&stats);
no_stats:
    PyBuffer_Release(&feats);
    return result;
}

/* Static features, CMVN and deltas in one go; `stats` NULL: those of these frames. 1, 0: not finite, -1: no memory. */
static int full_frames(const Plan *plan, const Audio *audio, Py_ssize_t num_frames, Full *task, bool normalize,
                           bool norm_vars, const double *stats, float *out) {
    const Py_ssize_t dim = plan->dim;
    float *feats = allocate(num_frames * dim), *norm = malloc(2 * dim * sizeof(float));
    double *own_stats = malloc(2 * (dim + 1) * sizeof(double));
    int status = -1;
    if (feats != NULL && norm != NULL && own_stats != NULL)
        status = PICK(static_frames)(plan, audio, num_frames, feats);
    if (status == 1) {
        if (normalize && stats == NULL) {
            PICK(add_up)(feats, num_frames, dim, own_stats);
            stats = own_stats;
        }
        if (normalize) {
            normalization(stats, dim, norm_vars, norm, norm + dim);
            task->mean = norm;
            task->scale = norm + dim;
        }
        if (!PICK(full_feature_frames)(task, feats, num_frames, out)) status = -1;
    }
    free(feats);
    free(norm);
    free(own_stats);
    return status;
}

PyDoc_STRVAR(full_doc,
             "full(plan, samples, first, cmvn, norm_vars, stats, order, window, out) -> bool\n\n"
             "`static` and `full_features` in one: fills out (T, D * (order + 1)). cmvn: whether to normalize; stats None:\n"
             "by the statistics of these frames. False: not all static features are finite.");

static PyObject *compute_full(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *capsule, *samples_array, *stats_array, *out_array, *result = NULL;
    Py_buffer samples, stats = {0}, out;
    Audio audio;
    Full task = {0};
    int normalize, norm_vars;
    if (!PyArg_ParseTuple(args, "OOnppOiiO:full", &capsule, &samples_array, &audio.first, &normalize, &norm_vars,
                          &stats_array, &task.order, &task.window, &out_array))
        return NULL;
    const Plan *plan = PyCapsule_GetPointer(capsule, PLAN);
    if (plan == NULL) return NULL;
    if (get_array(samples_array, &samples, "f", 1, false, "samples") < 0) return NULL;
    if (get_array(out_array, &out, "f", 2, true, "out") < 0) goto no_out;
    if (stats_array != Py_None && get_array(stats_array, &stats, "d", 2, false, "stats") < 0) goto no_stats;

    audio.samples = samples.buf;
    audio.num_samples = samples.shape[0];
    task.dim = plan->dim;
    if (stats_array != Py_None && (stats.shape[0] != 2 || stats.shape[1] != plan->dim + 1)) {
        PyErr_SetString(PyExc_ValueError, "full: statistics of another size");
    } else if (is_sound_full(&task, out.shape[1]) && is_sound(plan, &audio, out.shape[0])) {
        int status;
        Py_BEGIN_ALLOW_THREADS;
        status = full_frames(plan, &audio, out.shape[0], &task, normalize, norm_vars, stats.buf, out.buf);
        Py_END_ALLOW_THREADS;
        result = status < 0 ? PyErr_NoMemory() : PyBool_FromLong(status);
    }
    if (stats_array != Py_None) PyBuffer_Release(&stats);
no_stats:
    PyBuffer_Release(&out);
no_out:
    PyBuffer_Release(&samples);
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

#else /* compiled for each kind of CPU */

typedef float BUILD(f32) __attribute__((vector_size(VECTOR_BYTES)));
typedef float BUILD(f32u) __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef int32_t BUILD(i32) __attribute__((vector_size(VECTOR_BYTES)));
typedef float BUILD(quad) __attribute__((vector_size(16), aligned(4), may_alias));
#define f32 BUILD(f32)
#define f32u BUILD(f32u)
#define i32 BUILD(i32)
#define quad BUILD(quad)
#define LANES (VECTOR_BYTES / 4)
#define LOAD(pointer) (*(const f32u *)(pointer))
#define STORE(pointer, vector) (*(f32u *)(pointer) = (vector))
#define SELECT(mask, yes, no) ((f32)(((mask) & (i32)(yes)) | (~(mask) & (i32)(no))))
#define ALL(value) ((f32){0} + (value))
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (i32){__VA_ARGS__})
#endif
#if LANES == 8
#define LOW_PAIRS(a, b) SHUFFLE(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define HIGH_PAIRS(a, b) SHUFFLE(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define LOW_HALVES(a, b) SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define HIGH_HALVES(a, b) SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#else
#define LOW_PAIRS(a, b) SHUFFLE(a, b, 0, 4, 1, 5)
#define HIGH_PAIRS(a, b) SHUFFLE(a, b, 2, 6, 3, 7)
#define LOW_HALVES(a, b) SHUFFLE(a, b, 0, 1, 4, 5)
#define HIGH_HALVES(a, b) SHUFFLE(a, b, 2, 3, 6, 7)
#endif

/* The first `num` floats at `source`, zeros behind them: so that an odd end goes through the same arithmetic. */
static inline f32 BUILD(load_part)(const float *source, Py_ssize_t num) {
    float part[LANES] = {0};
    memcpy(part, source, num * sizeof(float));
    return LOAD(part);
}

/* Four samples of frame `lane`, and in the upper half of a wide vector four of frame `lane` + 4. */
static inline f32 BUILD(load_rows)(const float *row, Py_ssize_t distance) {
#if LANES == 8
    const quad low = *(const quad *)row, high = *(const quad *)(row + 4 * distance);
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
#else
    return (f32){low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]};
#endif
#else
    (void)distance;
    return *(const quad *)row;
#endif
}

/* Sum over a vector's lanes in pairs, always the same ones. */
static inline float BUILD(add_lanes)(f32 values) {
    float sums[LANES];
    STORE(sums, values);
    for (int width = LANES / 2; width > 0; width /= 2) {
        for (int lane = 0; lane < width; lane++) sums[lane] += sums[lane + width];
    }
    return sums[0];
}

static float BUILD(sum)(const float *values, Py_ssize_t num) {
    f32 sums[4] = {{0}};
    Py_ssize_t i = 0;
    for (; i + 4 * LANES <= num; i += 4 * LANES) {
        for (int k = 0; k < 4; k++) sums[k] += LOAD(values + i + k * LANES);
    }
    for (; i + LANES <= num; i += LANES) sums[0] += LOAD(values + i);
    if (i < num) sums[1] += BUILD(load_part)(values + i, num - i);
    return BUILD(add_lanes)((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/* Sum of (value - mean)^2. */
static float BUILD(sum_squares)(const float *values, Py_ssize_t num, float mean) {
    f32 sums[4] = {{0}};
    Py_ssize_t i = 0;
    for (; i + 4 * LANES <= num; i += 4 * LANES) {
        for (int k = 0; k < 4; k++) {
            const f32 value = LOAD(values + i + k * LANES) - mean;
            sums[k] += value * value;
        }
    }
    for (; i + LANES <= num; i += LANES) {
        const f32 value = LOAD(values + i) - mean;
        sums[0] += value * value;
    }
    if (i < num) {
        float part[LANES] = {0};
        STORE(part, BUILD(load_part)(values + i, num - i) - mean);
        const f32 value = BUILD(load_part)(part, num - i); /* the filling is not part of the frame */
        sums[1] += value * value;
    }
    return BUILD(add_lanes)((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/* Pre-emphasis of `num` samples, of which the first is left out. The difference plus a small part of the predecessor
 * rounds far less than subtracting a large part of it. */
static void BUILD(emphasise)(const float *samples, Py_ssize_t num, float rest, float *out) {
    Py_ssize_t i = 1;
    out[0] = 0.0f;
    for (; i + LANES <= num; i += LANES) {
        const f32 before = LOAD(samples + i - 1), difference = LOAD(samples + i) - before;
        STORE(out + i, difference + before * rest);
    }
    if (i < num) {
        const f32 before = BUILD(load_part)(samples + i - 1, num - i);
        const f32 difference = BUILD(load_part)(samples + i, num - i) - before;
        STORE(out + i, difference + before * rest); /* there is room for the rest of the vector */
    }
}

/* Natural logarithm of positive numbers that are not denormal, good to the last bit or two; inf and NaN give
 * themselves. The number is 2^e * (1 + f) with f in -1/3 to 1/3, and log(1 + f) is f - f^2 / 2 + f^3 p(f), with p
 * fitted so that its weighted maximum error is smallest. */
static inline f32 BUILD(log)(f32 x) {
    const i32 bits = (i32)x, two_thirds = (i32){0} + 0x3f2aaaab;
    const i32 exponent = (bits - two_thirds) >> 23;
    const f32 e = __builtin_convertvector(exponent, f32);
    const f32 f = (f32)(bits - (exponent << 23)) - 1.0f;
    f32 p = ALL(-0.13191761f);
    p = p * f + 0.13962445f;
    p = p * f - 0.12115102f;
    p = p * f + 0.14010921f;
    p = p * f - 0.16685468f;
    p = p * f + 0.20010044f;
    p = p * f - 0.24999689f;
    p = p * f + 0.33333224f;
    const f32 square = f * f;
    /* log(2) in two parts, the first with so few digits that its product with e is exact. */
    f32 result = p * (square * f) + e * 1.42860682e-6f;
    result = result - square * 0.5f;
    result = (result + f) + e * 0.693145752f;
    return SELECT(x <= FLT_MAX, result, x);
}

static inline f32 BUILD(log_floored)(f32 x) {
    return BUILD(log)(SELECT(x < FLT_EPSILON, ALL(FLT_EPSILON), x)); /* NaN stays NaN */
}

/* One pass of radix 4 over a complex FFT of `size` points in place, decimation in frequency: each quarter is then an
 * FFT of its own. Point k is z[2k], z[2k + 1], its real and imaginary part. */
static inline __attribute__((always_inline)) void BUILD(butterfly)(f32 *z, Py_ssize_t quarter, const float *twiddle) {
    f32 *a = z, *b = z + 2 * quarter, *c = z + 4 * quarter, *d = z + 6 * quarter;
    const f32 sum_ac_re = a[0] + c[0], sum_ac_im = a[1] + c[1], diff_ac_re = a[0] - c[0], diff_ac_im = a[1] - c[1];
    const f32 sum_bd_re = b[0] + d[0], sum_bd_im = b[1] + d[1], diff_bd_re = b[0] - d[0], diff_bd_im = b[1] - d[1];
    a[0] = sum_ac_re + sum_bd_re;
    a[1] = sum_ac_im + sum_bd_im;
    const f32 re1 = diff_ac_re + diff_bd_im, im1 = diff_ac_im - diff_bd_re;
    const f32 re2 = sum_ac_re - sum_bd_re, im2 = sum_ac_im - sum_bd_im;
    const f32 re3 = diff_ac_re - diff_bd_im, im3 = diff_ac_im + diff_bd_re;
    if (twiddle == NULL) {
        b[0] = re1, b[1] = im1, c[0] = re2, c[1] = im2, d[0] = re3, d[1] = im3;
        return;
    }
    b[0] = re1 * twiddle[0] - im1 * twiddle[1];
    b[1] = re1 * twiddle[1] + im1 * twiddle[0];
    c[0] = re2 * twiddle[2] - im2 * twiddle[3];
    c[1] = re2 * twiddle[3] + im2 * twiddle[2];
    d[0] = re3 * twiddle[4] - im3 * twiddle[5];
    d[1] = re3 * twiddle[5] + im3 * twiddle[4];
}

static void BUILD(fft)(f32 *z, Py_ssize_t num_points, const float *twiddles) {
    Py_ssize_t size = num_points;
    for (; size > 4; twiddles += 6 * (size / 4), size /= 4) {
        const Py_ssize_t quarter = size / 4;
        for (Py_ssize_t block = 0; block < num_points; block += size) BUILD(butterfly)(z + 2 * block, quarter, NULL);
        for (Py_ssize_t j = 1; j < quarter; j++) {
            for (Py_ssize_t block = 0; block < num_points; block += size)
                BUILD(butterfly)(z + 2 * (block + j), quarter, twiddles + 6 * j);
        }
        if (size > CACHED) { /* a large one: finish a quarter while it is in the cache */
            for (int k = 0; k < 4; k++) BUILD(fft)(z + 2 * k * quarter, quarter, twiddles + 6 * quarter);
            return;
        }
    }
    if (size == 4) {
        for (Py_ssize_t block = 0; block < num_points; block += 4) BUILD(butterfly)(z + 2 * block, 1, NULL);
    } else if (size == 2) {
        for (f32 *pair = z; pair < z + 2 * num_points; pair += 4) {
            const f32 re = pair[0], im = pair[1];
            pair[0] = re + pair[2];
            pair[1] = im + pair[3];
            pair[2] = re - pair[2];
            pair[3] = im - pair[3];
        }
    }
}

/* From the FFT of even samples (real parts) and odd ones (imaginary parts) to the power spectrum, times four. */
static void BUILD(power_spectrum)(const Plan *plan, const f32 *z, f32 *power) {
    const Py_ssize_t num_points = plan->fft_size / 2;
    const f32 zero = 2.0f * (z[0] + z[1]);
    power[0] = zero * zero;
    for (Py_ssize_t k = 1; k <= num_points / 2; k++) {
        const f32 *a = z + 2 * plan->position[k], *b = z + 2 * plan->position[num_points - k];
        const float *twiddle = plan->half_twiddles + 2 * k;
        const f32 even_re = a[0] + b[0], even_im = a[1] - b[1], odd_re = a[1] + b[1], odd_im = b[0] - a[0];
        const f32 turned_re = odd_re * twiddle[0] - odd_im * twiddle[1];
        const f32 turned_im = odd_re * twiddle[1] + odd_im * twiddle[0];
        const f32 re = even_re + turned_re, im = even_im + turned_im;
        const f32 mirror_re = even_re - turned_re, mirror_im = even_im - turned_im;
        power[k] = re * re + im * im;
        power[num_points - k] = mirror_re * mirror_re + mirror_im * mirror_im;
    }
}

/* The frames of a group in the lanes, ready for the FFT: pre-emphasis, mean and window. Returns their energies. */
static f32 BUILD(fill_windows)(const Plan *plan, const float *raw, const float *emphasised, const Py_ssize_t *starts,
                               f32 *z) {
    const Py_ssize_t length = plan->length, distance = plan->shift;
    float means[LANES] = {0}, firsts[LANES], energies[LANES] = {0};
    for (int lane = 0; lane < LANES; lane++) {
        const float *frame = raw + starts[lane];
        if (plan->remove_mean) means[lane] = BUILD(sum)(frame, length) / (float)length;
        if (plan->energy == RAW_ENERGY) energies[lane] = BUILD(sum_squares)(frame, length, means[lane]);
        firsts[lane] = frame[0];
    }
    const f32 offset = LOAD(means) * plan->rest;
    const float *window = plan->window, *rows = emphasised;
    Py_ssize_t i = 0;
    for (; i + 4 <= length; i += 4) {
        const f32 row0 = BUILD(load_rows)(rows + i, distance);
        const f32 row1 = BUILD(load_rows)(rows + i + distance, distance);
        const f32 row2 = BUILD(load_rows)(rows + i + 2 * distance, distance);
        const f32 row3 = BUILD(load_rows)(rows + i + 3 * distance, distance);
        const f32 low01 = LOW_PAIRS(row0, row1), high01 = HIGH_PAIRS(row0, row1);
        const f32 low23 = LOW_PAIRS(row2, row3), high23 = HIGH_PAIRS(row2, row3);
        z[i] = (LOW_HALVES(low01, low23) - offset) * window[i];
        z[i + 1] = (HIGH_HALVES(low01, low23) - offset) * window[i + 1];
        z[i + 2] = (LOW_HALVES(high01, high23) - offset) * window[i + 2];
        z[i + 3] = (HIGH_HALVES(high01, high23) - offset) * window[i + 3];
    }
    for (; i < length; i++) {
        float column[LANES];
        for (int lane = 0; lane < LANES; lane++) column[lane] = rows[i + lane * distance];
        z[i] = (LOAD(column) - offset) * window[i];
    }
    for (; i < plan->fft_size; i++) z[i] = ALL(0.0f);
    /* A frame's first sample has no predecessor in it. */
    z[0] = (LOAD(firsts) - LOAD(means)) * plan->rest * window[0];
    if (plan->energy == WINDOWED_ENERGY) {
        f32 sum = {0};
        for (i = 0; i < length; i++) sum += z[i] * z[i];
        return sum;
    }
    return LOAD(energies);
}

/* Cosine transform and lifter. */
static void BUILD(transform)(const Plan *plan, const f32 *log_mel, f32 *cepstra) {
    const Py_ssize_t num_bins = plan->num_bins;
    const float *row = plan->dct;
    Py_ssize_t c = 0;
    for (; c + 4 <= plan->num_ceps; c += 4, row += 4 * num_bins) { /* four at once: sums that do not wait for each other */
        f32 sums[4] = {{0}};
        for (Py_ssize_t bin = 0; bin < num_bins; bin++) {
            for (int k = 0; k < 4; k++) sums[k] += log_mel[bin] * row[k * num_bins + bin];
        }
        for (int k = 0; k < 4; k++) cepstra[c + k] = sums[k];
    }
    for (; c < plan->num_ceps; c++, row += num_bins) {
        f32 sum = {0};
        for (Py_ssize_t bin = 0; bin < num_bins; bin++) sum += log_mel[bin] * row[bin];
        cepstra[c] = sum;
    }
}

/* Static features of all frames. Returns 1, 0: not all are finite, -1: no memory. */
static int BUILD(static_frames)(const Plan *plan, const Audio *audio, Py_ssize_t num_frames, float *out) {
    const Py_ssize_t num_points = plan->fft_size / 2, num_bins = plan->num_bins, num_ceps = plan->num_ceps;
    const Py_ssize_t span = (LANES - 1) * plan->shift + plan->length;
    f32 *z = allocate((plan->fft_size + num_points + 2 * num_bins) * LANES);
    float *raw_copy = allocate(span), *emphasised = allocate(span + LANES);
    f32 not_finite = {0};
    if (z == NULL || raw_copy == NULL || emphasised == NULL) {
        free(z);
        free(raw_copy);
        free(emphasised);
        return -1;
    }
    f32 *power = z + plan->fft_size, *log_mel = power + num_points, *cepstra = log_mel + num_bins;
    Py_ssize_t starts[LANES];
    for (Py_ssize_t t = 0; t < num_frames; t += LANES) {
        const int num = (int)(num_frames - t < LANES ? num_frames - t : LANES);
        const Py_ssize_t begin = audio->first + t * plan->shift, num_used = (num - 1) * plan->shift + plan->length;
        const float *raw = raw_copy;
        if (begin >= 0 && begin + span <= audio->num_samples) {
            raw = audio->samples + begin;
        } else {
            copy_mirrored(audio, begin, begin + num_used, raw_copy);
            memset(raw_copy + num_used, 0, (span - num_used) * sizeof(float)); /* lanes without a frame */
        }
        for (int lane = 0; lane < LANES; lane++) starts[lane] = lane * plan->shift;
        BUILD(emphasise)(raw, span, plan->rest, emphasised);
        const f32 energy = BUILD(fill_windows)(plan, raw, emphasised, starts, z);
        BUILD(fft)(z, num_points, plan->twiddles);
        BUILD(power_spectrum)(plan, z, power);

        const float *tap = plan->taps;
        for (Py_ssize_t bin = 0; bin < num_bins; bin++) {
            const f32 *input = power + plan->first[bin];
            const Py_ssize_t num_taps = plan->num_taps[bin];
            f32 even = {0}, odd = {0};
            Py_ssize_t i = 0;
            for (; i + 2 <= num_taps; i += 2) {
                even += input[i] * tap[i];
                odd += input[i + 1] * tap[i + 1];
            }
            if (i < num_taps) even += input[i] * tap[i];
            tap += num_taps;
            log_mel[bin] = BUILD(log_floored)(even + odd);
        }
        float *row = out + t * plan->dim;
        const f32 *columns = log_mel;
        Py_ssize_t num_columns = num_bins, place = plan->energy != NO_ENERGY;
        if (num_ceps > 0) {
            BUILD(transform)(plan, log_mel, cepstra);
            columns = cepstra, num_columns = num_ceps, place = 0;
        }
        for (Py_ssize_t c = 0; c < num_columns; c++) {
            not_finite += columns[c] * 0.0f;
            for (int lane = 0; lane < num; lane++) row[lane * plan->dim + place + c] = columns[c][lane];
        }
        if (plan->energy != NO_ENERGY) { /* in place of the first cepstrum, but before the first log mel energy */
            f32 log_energy = BUILD(log_floored)(energy);
            log_energy = SELECT(log_energy < plan->log_energy_floor, ALL(plan->log_energy_floor), log_energy);
            for (int lane = 0; lane < num; lane++) row[lane * plan->dim] = log_energy[lane];
            not_finite += log_energy * 0.0f;
        }
    }
    bool is_finite = true;
    for (int lane = 0; lane < LANES; lane++) is_finite = is_finite && not_finite[lane] == 0.0f;
    free(z);
    free(raw_copy);
    free(emphasised);
    return is_finite;
}

static void BUILD(add_up)(const float *feats, Py_ssize_t num_frames, Py_ssize_t dim, double *stats) {
    double *sums = stats, *squares = stats + dim + 1;
    for (Py_ssize_t d = 0; d < dim; d++) sums[d] = squares[d] = 0.0;
    for (Py_ssize_t t = 0; t < num_frames; t++) {
        const float *frame = feats + t * dim;
        for (Py_ssize_t d = 0; d < dim; d++) {
            const double value = frame[d];
            sums[d] += value;
            squares[d] += value * value;
        }
    }
    sums[dim] = (double)num_frames;
    squares[dim] = 0.0;
}

/* One order of deltas: `num` values, rows of `dim` one after the other, from values that begin `window` rows before. */
static inline __attribute__((always_inline)) void BUILD(slopes)(const float *feats, Py_ssize_t num, Py_ssize_t dim,
                                                                int window, float *out) {
    double norm = 0.0;
    for (int step = 1; step <= window; step++) norm += 2.0 * step * step;
    for (Py_ssize_t i = 0; i < num; i += LANES) { /* there is room for whole vectors */
        const float *centre = feats + i + window * dim;
        f32 sum = {0};
        for (int step = 1; step <= window; step++)
            sum += (LOAD(centre + step * dim) - LOAD(centre - step * dim)) * (float)(step / norm);
        STORE(out + i, sum);
    }
}

static bool BUILD(full_feature_frames)(const Full *task, const float *feats, Py_ssize_t num_frames, float *out) {
    const Py_ssize_t dim = task->dim, row = dim * (task->order + 1), reach = (Py_ssize_t)task->order * task->window;
    const Py_ssize_t size = (BLOCK_ROWS + 2 * reach) * dim + LANES;
    float *buffer = allocate(2 * size);
    if (buffer == NULL) return false;
    memset(buffer, 0, 2 * size * sizeof(float));
    for (Py_ssize_t begin = 0; begin < num_frames; begin += BLOCK_ROWS) {
        const Py_ssize_t num = num_frames - begin < BLOCK_ROWS ? num_frames - begin : BLOCK_ROWS;
        float *now = buffer, *next = buffer + size;
        for (Py_ssize_t r = 0; r < num + 2 * reach; r++) {
            Py_ssize_t t = begin - reach + r;
            t = t < 0 ? 0 : t < num_frames ? t : num_frames - 1;
            const float *source = feats + t * dim;
            float *target = now + r * dim;
            if (task->mean == NULL) {
                memcpy(target, source, dim * sizeof(float));
            } else {
                for (Py_ssize_t d = 0; d < dim; d++) target[d] = (source[d] - task->mean[d]) * task->scale[d];
            }
        }
        Py_ssize_t left = reach; /* rows before and after those wanted */
        for (int degree = 0;; degree++) {
            for (Py_ssize_t r = 0; r < num; r++) {
                const float *source = now + (left + r) * dim;
                float *target = out + (begin + r) * row + degree * dim;
                for (Py_ssize_t d = 0; d < dim; d++) target[d] = source[d];
            }
            if (degree == task->order) break;
            left -= task->window;
            if (task->window == 2) {
                BUILD(slopes)(now, (num + 2 * left) * dim, dim, 2, next);
            } else {
                BUILD(slopes)(now, (num + 2 * left) * dim, dim, task->window, next);
            }
            float *swap = now;
            now = next;
            next = swap;
        }
    }
    free(buffer);
    return true;
}

#undef f32
#undef f32u
#undef i32
#undef quad
#undef LANES
#undef LOAD
#undef STORE
#undef SELECT
#undef ALL
#undef SHUFFLE
#undef LOW_PAIRS
#undef HIGH_PAIRS
#undef LOW_HALVES
#undef HIGH_HALVES

#endif
