/* Statistics of the weight gradient of a convolution, for each sample on its own: what `correlate` does, with fewer products.

   At each point the gradient of a sample is a sum over its tiles of products of inputs and errors. A panel of it, some
   inputs times one or two vectors of outputs, is summed up at all points, brought back to the nine elements of the kernel,
   counted, and forgotten.

   Compiled once for REAL = float and once for REAL = double. */

#include "correlation.h"
#include "winograd.h"

/* Inputs that are summed up at once with two vectors of outputs; they are part of one panel. */
#if BYTES == 64
#define DEEP 8
#else
#define DEEP (LANES < 4 ? LANES : 4)
#endif

/* Inputs by outputs of a panel at all points: (points, inputs, vectors), with a gap between points. */
INLINE int64_t panel_point(int64_t inputs, int vectors) { return (inputs + 1) * vectors; }

/* Sums over the tiles of DEEP inputs, of a panel `width` wide, times vectors of errors at one point. */
INLINE void multiply(const int vectors, int64_t tiles, const REAL *x, int64_t width, const REAL *e, Vector *to)
{
    Vector sum[8][2];
    for (int c = 0; c < DEEP; c++)
        for (int v = 0; v < vectors; v++)
            sum[c][v] = (Vector){0};
    for (int64_t n = 0; n < tiles; n++, x += width, e += vectors * LANES) {
        Vector error[2];
        for (int v = 0; v < vectors; v++)
            error[v] = *(const Vector *)(e + v * LANES);
        for (int c = 0; c < DEEP; c++)
            for (int v = 0; v < vectors; v++)
                sum[c][v] += x[c] * error[v];
    }
    for (int c = 0; c < DEEP; c++)
        for (int v = 0; v < vectors; v++)
            to[c * vectors + v] = sum[c][v];
}

/* What is wanted of a panel, added to that of its outputs; the reference is that of the first input. */
INLINE void count(const int vectors, int64_t inputs, const Vector *sums, const Correlation *t, const Results *r, int64_t at,
                  const REAL *reference)
{
    int64_t step = panel_point(inputs, vectors), offset = t->inputs * t->padded;
    for (int64_t c = 0; c < inputs; c++)
        for (int v = 0; v < vectors; v++) {
            Vector halfway[3][6], line[6], elements[4], squares = {0}, magnitudes = {0}, products = {0};
            for (int j = 0; j < 6; j++) {
                for (int i = 0; i < 6; i++)
                    line[i] = sums[(i * 6 + j) * step + c * vectors + v];
                product(3, line, elements);
                for (int i = 0; i < 3; i++)
                    halfway[i][j] = elements[i];
            }
            for (int i = 0; i < 3; i++) {
                product(3, halfway[i], elements);
                for (int j = 0; j < 3; j++) {
                    squares += elements[j] * elements[j];
                    if (r->magnitudes)
                        magnitudes += magnitude(elements[j]);
                    if (reference)
                        products += elements[j] * *(const Vector *)(reference + (i * 3 + j) * offset + c * t->padded + v * LANES);
                }
            }
            if (r->squares)
                *(Vector *)(r->squares + at + v * LANES) += squares;
            if (r->magnitudes)
                *(Vector *)(r->magnitudes + at + v * LANES) += magnitudes;
            if (reference)
                *(Vector *)(r->products + at + v * LANES) += products;
        }
}

/* All inputs, and the outputs of one panel of errors. */
INLINE void outputs_of(const int vectors, const Correlation *t, const Results *r, int64_t tiles, const REAL *x, const REAL *e,
                       Vector *sums, int64_t at, int64_t output)
{
    for (int64_t first = 0; first < t->inputs; first += 2 * LANES) {
        int64_t width = panel_width(t->inputs, first);
        for (int64_t point = 0; point < POINTS; point++)
            for (int64_t c = 0; c < width; c += DEEP)
                multiply(vectors, tiles, x + panel_start(tiles, first) + point * point_size(tiles, width) + c, width,
                         e + point * point_size(tiles, vectors * LANES),
                         sums + point * panel_point(width, vectors) + c * vectors);
        count(vectors, width, sums, t, r, at, r->reference ? r->reference + first * t->padded + output : 0);
    }
}

/* Sums of the errors themselves: the gradients of a shift. */
static void add_errors(const Correlation *t, const REAL *e, REAL *totals)
{
    for (int64_t o = 0; o < t->outputs; o += LANES) {
        Vector sum = {0};
        for (int64_t row = 0; row < t->rows; row++)
            for (int64_t column = 0; column < t->columns; column++)
                sum += *(const Vector *)(e + row * t->error_row + column * t->error_pixel + o);
        *(Vector *)(totals + o) = sum;
    }
}

static int64_t tiles_of(const Correlation *t) { return ((t->rows + SIDE - 1) / SIDE) * ((t->columns + SIDE - 1) / SIDE); }

/* Numbers that `correlate_tiles` needs room for in each thread. */
int64_t correlate_tiles_room(const Correlation *task)
{
    int64_t tiles = tiles_of(task);
    return panel_start(tiles, task->inputs) + panel_start(tiles, 2 * LANES) + POINTS * panel_point(2 * LANES, 2) * LANES;
}

/* The statistics of all samples. The results have to be zero before; channels of both sides fill vectors, and the kernel
   has 3 x 3 elements and moves by one pixel. `room` is what every thread needs. */
void correlate_tiles(const Correlation *task, const REAL *inputs, const REAL *errors, const Results *results, REAL *room)
{
    int64_t across = (task->columns + SIDE - 1) / SIDE, tiles = tiles_of(task), labels = task->batch / task->samples;
    Image before = {task->height, task->width, task->input_row, task->input_pixel};
    Image behind = {task->rows, task->columns, task->error_row, task->error_pixel};
#pragma omp parallel num_threads(task->threads)
    {
        REAL *x = room + omp_get_thread_num() * correlate_tiles_room(task), *e = x + panel_start(tiles, task->inputs);
        Vector *sums = (Vector *)(e + panel_start(tiles, 2 * LANES));
        int64_t held = -1; /* the sample whose inputs are there at all points */
#pragma omp for schedule(static)
        for (int64_t m = 0; m < task->batch; m++) {
            int64_t sample = m / labels, n = m % labels * task->samples + sample;
            const REAL *error = errors + n * task->error_sample;
            if (sample != held)
                for (int64_t tile = 0; tile < tiles; tile++)
                    tile_at_points(6, &before, inputs + sample * task->input_sample, tile / across * SIDE - task->padding_top,
                                   tile % across * SIDE - task->padding_left, task->inputs, tile, tiles, x);
            held = sample;
            for (int64_t o = 0; o < task->outputs; o += 2 * LANES) {
                int64_t width = panel_width(task->outputs, o), at = n * task->padded + o;
                for (int64_t tile = 0; tile < tiles; tile++)
                    tile_at_points(SIDE, &behind, error + o, tile / across * SIDE, tile % across * SIDE, width, tile, tiles, e);
                if (width == LANES)
                    outputs_of(1, task, results, tiles, x, e, sums, at, o);
                else
                    outputs_of(2, task, results, tiles, x, e, sums, at, o);
            }
            if (results->totals)
                add_errors(task, error, results->totals + n * task->padded);
        }
    }
}
