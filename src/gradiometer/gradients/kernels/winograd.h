/* Convolutions with kernels of 3 x 3 that move by one pixel, by Winograd's minimal filtering.

   Tiles of 4 x 4 pixels on one side depend on windows of 6 x 6 on the other. Both are polynomials in two variables, which
   are multiplied at the 36 pairs of the points 0, 1, -1, 1/2, -2 and infinity: 36 multiplications for each pair of channels
   where a sum over the kernel takes 144. With these points the rounding is at most a few times that of the plain sum.

   Channels are the fastest dimension in memory, and their number is a multiple of the lanes of a vector. */

#include "vectors.h"

#define POINTS 36
#define SIDE 4

/* A panel holds the values of two vectors of channels at all points: (points, tiles, channels of the panel), or of one
   vector, where no more channels are left. Between points there is a gap, without which they would lie on the same few
   lines of the cache. */
INLINE int64_t panel_width(int64_t channels, int64_t first) { return channels - first < 2 * LANES ? LANES : 2 * LANES; }
INLINE int64_t point_size(int64_t tiles, int64_t width) { return tiles * width + LANES; }

/* Where the panel of a channel begins, and, for all channels, the numbers that panels take. */
INLINE int64_t panel_start(int64_t tiles, int64_t first)
{
    return POINTS * (first * tiles + (first + 2 * LANES - 1) / (2 * LANES) * LANES);
}

/* Six numbers of a window at the six points. */
INLINE void window_at_points(const Vector d[6], Vector *to, int64_t step)
{
    Vector a = d[3] - d[1], b = d[4] - d[2];
    to[0] = d[0] + (REAL)1.5 * a + b - d[2];
    to[step] = b + (REAL)1.5 * (d[2] + d[3]) + a;
    to[2 * step] = b - (REAL)1.5 * d[2] + (REAL)0.5 * d[3] + d[1];
    to[3 * step] = b + 2 * a;
    to[4 * step] = b - (REAL)0.5 * a;
    to[5 * step] = d[5] + (REAL)1.5 * b - d[3] - a;
}

/* Three numbers of a kernel, or four of a tile, at the six points. */
INLINE void factor_at_points(const int size, const Vector g[4], Vector *to, int64_t step)
{
    Vector nothing = {0}, fourth = size == 4 ? g[3] : nothing;
    Vector even = (g[0] + g[2]) * ((REAL)1 / 3), odd = (g[1] + fourth) * ((REAL)1 / 3);
    to[0] = g[0];
    to[step] = even + odd;
    to[2 * step] = odd - even;
    to[3 * step] = (g[0] + (REAL)0.5 * g[1] + (REAL)0.25 * g[2] + (REAL)0.125 * fourth) * ((REAL)-16 / 15);
    to[4 * step] = (g[0] - 2 * g[1] + 4 * g[2] - 8 * fourth) * ((REAL)1 / 15);
    to[5 * step] = g[size - 1];
}

/* Products at the six points back to four numbers of a tile, or three of a kernel. */
INLINE void product(const int size, const Vector m[6], Vector to[4])
{
    Vector sum = m[1] + m[2], difference = m[1] - m[2];
    to[0] = m[0] + sum + m[3] + m[4];
    to[1] = difference + (REAL)0.5 * m[3] - 2 * m[4];
    to[2] = sum + (REAL)0.25 * m[3] + 4 * m[4];
    if (size == 4)
        to[3] = difference + (REAL)0.125 * m[3] - 8 * m[4] + m[5];
    else
        to[2] += m[5];
}

/* Images of which tiles are taken: sizes and steps. */
typedef struct {
    int64_t height, width, row, pixel;
} Image;

/* A tile of `size` by `size` pixels from (top, left) on, zero outside of the image, at all points of its panels. */
INLINE void tile_at_points(const int size, const Image *image, const REAL *from, int64_t top, int64_t left, int64_t channels,
                           int64_t tile, int64_t tiles, REAL *to)
{
    int inside = top >= 0 && left >= 0 && top + size <= image->height && left + size <= image->width;
    from += top * image->row + left * image->pixel;
    for (int64_t c = 0; c < channels; c += LANES) {
        int64_t first = c / (2 * LANES) * (2 * LANES), width = panel_width(channels, first);
        REAL *place = to + panel_start(tiles, first) + tile * width + (c - first);
        Vector halfway[6][6], line[6];
        for (int j = 0; j < size; j++) {
            for (int i = 0; i < size; i++) {
                int there = inside || (left + j >= 0 && left + j < image->width && top + i >= 0 && top + i < image->height);
                line[i] = there ? *(const Vector *)(from + i * image->row + j * image->pixel + c) : (Vector){0};
            }
            if (size == 6)
                window_at_points(line, &halfway[0][j], 6);
            else
                factor_at_points(4, line, &halfway[0][j], 6);
        }
        for (int i = 0; i < 6; i++) {
            if (size == 6)
                window_at_points(halfway[i], line, 1);
            else
                factor_at_points(4, halfway[i], line, 1);
            for (int j = 0; j < 6; j++)
                *(Vector *)(place + (i * 6 + j) * point_size(tiles, width)) = line[j];
        }
    }
}

int omp_get_thread_num(void);
int omp_get_num_threads(void);
