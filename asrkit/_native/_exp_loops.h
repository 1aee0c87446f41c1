/* Exponentials of eight numbers at once, for the loops of kernels, which include this file. It has no include guard,
 * like the loops. */
#define LOAD(pointer) (*(const f32x8u *)(pointer))
#define STORE(pointer, vector) (*(f32x8u *)(pointer) = (vector))
#define INLINE static inline __attribute__((always_inline))

#define LANES 8

INLINE f32x8 BUILD(spread)(float x) { return (f32x8){x, x, x, x, x, x, x, x}; }

/* x, limited to -limit ... limit. NaN stays NaN: comparisons with NaN are false, and if a number is NaN, min and max
 * return the second. */
INLINE f32x8 BUILD(clip)(f32x8 x, float limit) {
    f32x8 low = BUILD(spread)(-limit), high = BUILD(spread)(limit);
#if VECTOR_BYTES == 32
    return __builtin_ia32_minps256(high, __builtin_ia32_maxps256(low, x));
#else
    i32x8 is_low = x < low, is_high = x > high;
    x = (f32x8)((is_low & (i32x8)low) | (~is_low & (i32x8)x));
    return (f32x8)((is_high & (i32x8)high) | (~is_high & (i32x8)x));
#endif
}

/* e^x = scale (1 + m) for |x| <= 88: splits x into n ln 2 + r with |r| <= ln 2 / 2, so that scale is 2^n and m is
 * e^r - 1. The polynomial interpolates m / r at Chebyshev's points; its error is 3e-8 of the value. */
INLINE f32x8 BUILD(split_exp)(f32x8 x, f32x8 *scale) {
    const float rounder = 12582912.0f; /* 1.5 2^23: adding it rounds to an integer in the low bits */
    f32x8 shifted = x * 1.44269504f + rounder;
    f32x8 n = shifted - rounder;
    f32x8 r = x - n * 0.693145752f; /* ln 2 in two parts: the first has few bits, so that n times it is exact */
    r = r - n * 1.42860677e-6f;
    f32x8 square = r * r, low = r * 0.5f + 1.0f, middle = r * 0.0416664649f + 0.166665052f;
    f32x8 high = r * 0.001393365f + 0.00836915567f;
    *scale = (f32x8)(((i32x8)shifted << 23) + 0x3f800000);
    return ((high * square + middle) * square + low) * r;
}

INLINE f32x8 BUILD(sigmoid)(f32x8 x) {
    f32x8 scale, m = BUILD(split_exp)(-BUILD(clip)(x, 87.0f), &scale);
    return 1.0f / (1.0f + (scale + scale * m));
}

/* (e^2x - 1) / (e^2x + 1), exact to a few units in the last place, also near 0. */
INLINE f32x8 BUILD(tanh)(f32x8 x) {
    f32x8 scale, m = BUILD(split_exp)(2.0f * BUILD(clip)(x, 10.0f), &scale);
    f32x8 grown = scale * m + (scale - 1.0f);
    return grown / (grown + 2.0f);
}

INLINE f32x8 BUILD(load_some)(const float *from, Py_ssize_t number) {
    if (number >= LANES) return LOAD(from);
    f32x8 vector = {0};
    for (Py_ssize_t i = 0; i < number; i++) vector[i] = from[i];
    return vector;
}
