/* Vectors of the numbers REAL as wide as the processor has them, and what several kernels do with them. */

#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

#define LANES (BYTES / (int64_t)sizeof(REAL))
#define INLINE static inline __attribute__((always_inline))

typedef REAL Vector __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef __typeof__((Vector){0} < (Vector){0}) Mask;

INLINE Vector magnitude(Vector values)
{
    Mask below = values < 0;
    return (Vector)((below & (Mask)-values) | (~below & (Mask)values));
}

/* The positions of one dimension whose window element, at first + stride * position, lies on the image. */
INLINE void on_image(int64_t first, int64_t stride, int64_t size, int64_t count, int64_t *from, int64_t *to)
{
    *from = first >= 0 ? 0 : (stride - 1 - first) / stride;
    *to = first >= size ? 0 : (size - first + stride - 1) / stride;
    if (*to > count)
        *to = count;
}
