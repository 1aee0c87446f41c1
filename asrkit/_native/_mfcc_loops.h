/* The loops of _mfcc.c, which includes this file by builds.h, once for each kind of CPU.
 *
 * LANES frames are computed at once, one in each lane of a vector. So the FFT, the mel filters, the logarithm and the
 * cosine transform need no shuffling. The result of a frame depends only on its own samples, to the last bit: neither
 * on its lane nor on the frames around it. So a stream of audio gives the same features as the whole recording.
 */

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

/* The first `num` floats at `source`, then zeros. So an incomplete vector at the end has the same arithmetic. */
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

/* Sum over the lanes of a vector, always in the same pairs. */
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
        const f32 value = BUILD(load_part)(part, num - i); /* the zeros are not part of the frame */
        sums[1] += value * value;
    }
    return BUILD(add_lanes)((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/* Pre-emphasis of `num` samples, except the first. The difference plus a small part of the previous sample has a far
 * smaller rounding error than the sample minus a large part of the previous one. */
static void BUILD(emphasize)(const float *samples, Py_ssize_t num, float rest, float *out) {
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

/* Natural logarithm of positive numbers that are not denormal, exact to the last bit or two. The results for inf and
 * NaN are inf and NaN. The number is 2^e * (1 + f) with f from -1/3 to 1/3, and log(1 + f) is f - f^2 / 2 + f^3 p(f).
 * The polynomial p has the smallest weighted maximum error. */
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

/* One pass of radix 4 over a complex FFT of `size` points in place, decimation in frequency. After it, each quarter is
 * a separate FFT. Point k is z[2k], z[2k + 1], its real and imaginary part. */
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

/* Load the frames of a group into the lanes and apply pre-emphasis, mean and window. Returns their energies. */
static f32 BUILD(fill_windows)(const Plan *plan, const float *raw, const float *emphasized, const Py_ssize_t *starts,
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
    const float *window = plan->window, *rows = emphasized;
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
    /* The first sample of a frame has no previous sample in the frame. */
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
    for (; c + 4 <= plan->num_ceps; c += 4, row += 4 * num_bins) { /* four independent sums at once */
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
    float *raw_copy = allocate(span), *emphasized = allocate(span + LANES);
    f32 not_finite = {0};
    if (z == NULL || raw_copy == NULL || emphasized == NULL) {
        free(z);
        free(raw_copy);
        free(emphasized);
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
        BUILD(emphasize)(raw, span, plan->rest, emphasized);
        const f32 energy = BUILD(fill_windows)(plan, raw, emphasized, starts, z);
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
        if (plan->energy != NO_ENERGY) { /* replaces the first cepstrum, or precedes the first log mel energy */
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
    free(emphasized);
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

/* One order of deltas: `num` values in rows of `dim`, computed from values that begin `window` rows earlier. */
static inline __attribute__((always_inline)) void BUILD(slopes)(const float *feats, Py_ssize_t num, Py_ssize_t dim,
                                                                int window, float *out) {
    double norm = 0.0;
    for (int step = 1; step <= window; step++) norm += 2.0 * step * step;
    for (Py_ssize_t i = 0; i < num; i += LANES) { /* there is room for whole vectors */
        const float *center = feats + i + window * dim;
        f32 sum = {0};
        for (int step = 1; step <= window; step++)
            sum += (LOAD(center + step * dim) - LOAD(center - step * dim)) * (float)(step / norm);
        STORE(out + i, sum);
    }
}

static bool BUILD(full_feature_frames)(const FullTask *task, const float *feats, Py_ssize_t num_frames, float *out) {
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
        Py_ssize_t left = reach; /* rows before and after the result */
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
