/* Exponentials and logarithms of four doubles at once, for the loops of kernels, which include this file. It has no
 * include guard, like the loops. */
#define LOAD(pointer) (*(const f64x4u *)(pointer))
#define STORE(pointer, vector) (*(f64x4u *)(pointer) = (vector))
#define INLINE static inline __attribute__((always_inline))

INLINE f64x4 BUILD(spread)(double x) { return (f64x4){x, x, x, x}; }

INLINE f64x4 BUILD(select)(i64x4 mask, f64x4 yes, f64x4 no) {
    return (f64x4)((mask & (i64x4)yes) | (~mask & (i64x4)no));
}

/* e^x for x up to 700; 0 below -700. x = n ln 2 + r with |r| <= ln 2 / 2, and Taylor's series of e^r to r^12. */
INLINE f64x4 BUILD(exp)(f64x4 x) {
    const double rounder = 0x1.8p52; /* adding it rounds to an integer in the low bits */
    i64x4 is_small = x < -700.0;
    x = BUILD(select)(is_small, BUILD(spread)(-700.0), x);
    f64x4 shifted = x * 1.4426950408889634 + rounder;
    f64x4 n = shifted - rounder;
    f64x4 r = x - n * 0x1.62e42fefap-1; /* ln 2 in two parts: the first has few bits, so that n times it is exact */
    r = r - n * 0x1.cf79abc9e3b39p-40;
    f64x4 sum = r * (1.0 / 479001600) + 1.0 / 39916800;
    sum = sum * r + 1.0 / 3628800;
    sum = sum * r + 1.0 / 362880;
    sum = sum * r + 1.0 / 40320;
    sum = sum * r + 1.0 / 5040;
    sum = sum * r + 1.0 / 720;
    sum = sum * r + 1.0 / 120;
    sum = sum * r + 1.0 / 24;
    sum = sum * r + 1.0 / 6;
    sum = sum * r + 0.5;
    sum = sum * r + 1.0;
    sum = sum * r + 1.0;
    f64x4 scale = (f64x4)(((i64x4)shifted << 52) + (1023LL << 52));
    return (f64x4)(~is_small & (i64x4)(sum * scale));
}

/* 2 artanh(s) = log((1 + s) / (1 - s)) for |s| < 0.172, by its series to s^21. */
INLINE f64x4 BUILD(artanh2)(f64x4 s) {
    f64x4 square = s * s;
    f64x4 sum = square * (2.0 / 21) + 2.0 / 19;
    sum = sum * square + 2.0 / 17;
    sum = sum * square + 2.0 / 15;
    sum = sum * square + 2.0 / 13;
    sum = sum * square + 2.0 / 11;
    sum = sum * square + 2.0 / 9;
    sum = sum * square + 2.0 / 7;
    sum = sum * square + 2.0 / 5;
    sum = sum * square + 2.0 / 3;
    sum = sum * square + 2.0;
    return sum * s;
}

/* log(1 + y) for y from 0 to 1, by log z = log c + 2 artanh((z - c) / (z + c)) for z = 1 + y and c = sqrt(2). */
INLINE f64x4 BUILD(log1p)(f64x4 y) {
    const double root = 1.4142135623730951;
    return BUILD(artanh2)((y + (1.0 - root)) / (y + (1.0 + root))) + 0.34657359027997264;
}

/* log(e^a + e^b) */
INLINE f64x4 BUILD(log_add)(f64x4 a, f64x4 b) {
    i64x4 is_less = a < b;
    f64x4 high = BUILD(select)(is_less, b, a), low = BUILD(select)(is_less, a, b);
    return high + BUILD(log1p)(BUILD(exp)(low - high));
}

/* log x for x >= 0, -inf for 0. x = 2^n m with m between sqrt(1/2) and sqrt(2). */
INLINE f64x4 BUILD(log)(f64x4 x) {
    const int64_t least = 0x3fe6a09e667f3bcdLL; /* the bits of sqrt(1/2) */
    i64x4 is_tiny = x < 0x1p-1022, is_zero = x == 0.0;
    x = BUILD(select)(is_tiny, x * 0x1p54, x); /* smaller numbers have another form */
    i64x4 bits = (i64x4)x - least;
    f64x4 m = (f64x4)((bits & 0xfffffffffffffLL) + least);
    f64x4 n = __builtin_convertvector((bits >> 52) - (is_tiny & 54), f64x4);
    f64x4 found = n * 0.6931471805599453 + BUILD(artanh2)((m - 1.0) / (m + 1.0));
    return BUILD(select)(is_zero, BUILD(spread)(-INFINITY), found);
}
