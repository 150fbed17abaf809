/* Statistics of the weight gradient of a convolution, for each sample on its own, without forming the gradient.

   For one sample, one group and one kernel offset the gradient is a sum over positions p of products x[p][c] e[p][o] of
   inputs and errors. A tile of it, some inputs c times one or two vectors of outputs o, is summed up in registers. When
   all positions are through, its squares, magnitudes and products with a reference are added to those of the outputs,
   and the tile is forgotten. Channels are the fastest dimension in memory on both sides, so that nothing is copied, and
   positions whose window reaches over the edge are left out instead of padded.

   Compiled once for REAL = float and once for REAL = double. */

#include "correlation.h"

/* Most inputs of a tile of one vector of outputs, and of two: as many sums as there are registers for. */
#if BYTES == 64
#define NARROW 16
#define BROAD 8
#else
#define NARROW 8
#define BROAD 4
#endif

/* One tile, and a row of n positions more. `within` says whether a vector may reach beyond the last error there is, at
   `end`: what lies there is of no interest, but must not be touched. */
INLINE void add_row(const int inputs, const int vectors, const int within, Vector sum[NARROW][2], const REAL *x, int64_t x_step,
                    const REAL *e, int64_t e_step, int64_t n, const REAL *end)
{
    for (int64_t p = 0; p < n; p++, x += x_step, e += e_step) {
        REAL last[2 * BYTES / sizeof(REAL)] = {0};
        const REAL *from = e;
        if (within && end - e < vectors * LANES)
            from = memcpy(last, e, (size_t)(end - e) * sizeof(REAL));
        Vector error[2];
        for (int v = 0; v < vectors; v++)
            error[v] = *(const Vector *)(from + v * LANES);
        for (int c = 0; c < inputs; c++)
            for (int v = 0; v < vectors; v++)
                sum[c][v] += x[c] * error[v];
    }
}

/* Where the window element of a kernel offset lies on the image: rows and columns of outputs, and their first input. */
typedef struct {
    int64_t first_row, last_row, from, to;
    const REAL *x;
} Part;

INLINE Part part_of(const Correlation *t, const REAL *x, int64_t i, int64_t j)
{
    Part part;
    int64_t top = i * t->dilation_down - t->padding_top, left = j * t->dilation_right - t->padding_left;
    on_image(top, t->stride_down, t->height, t->rows, &part.first_row, &part.last_row);
    on_image(left, t->stride_right, t->width, t->columns, &part.from, &part.to);
    part.x = x + (top + part.first_row * t->stride_down) * t->input_row + (left + part.from * t->stride_right) * t->input_pixel;
    return part;
}

/* One kernel offset of a tile. */
INLINE void tile(const int inputs, const int vectors, const Correlation *t, const Part *part, const REAL *x, const REAL *e,
                 const REAL *end, const int within, const REAL *reference, REAL *squares, REAL *magnitudes, REAL *products)
{
    int64_t x_step = t->stride_right * t->input_pixel, n = part->to - part->from;
    Vector sum[NARROW][2];
    for (int c = 0; c < inputs; c++)
        for (int v = 0; v < vectors; v++)
            sum[c][v] = (Vector){0};
    e += part->first_row * t->error_row + part->from * t->error_pixel;
    for (int64_t row = part->first_row; row < part->last_row; row++) {
        add_row(inputs, vectors, within, sum, x, x_step, e, t->error_pixel, n, end);
        x += t->stride_down * t->input_row;
        e += t->error_row;
    }
    for (int v = 0; v < vectors; v++) {
        int64_t at = v * LANES;
        if (squares)
            for (int c = 0; c < inputs; c++)
                *(Vector *)(squares + at) += sum[c][v] * sum[c][v];
        if (magnitudes)
            for (int c = 0; c < inputs; c++)
                *(Vector *)(magnitudes + at) += magnitude(sum[c][v]);
        if (products)
            for (int c = 0; c < inputs; c++)
                *(Vector *)(products + at) += sum[c][v] * *(const Vector *)(reference + c * t->padded + at);
    }
}

/* Sums of the errors themselves: the gradients of a shift. */
INLINE void add_errors(const int vectors, const int within, const Correlation *t, const REAL *e, const REAL *end, REAL *totals)
{
    const REAL one = 1;
    Vector sum[NARROW][2] = {{{0}}};
    for (int64_t row = 0; row < t->rows; row++)
        add_row(1, vectors, within, sum, &one, 0, e + row * t->error_row, t->error_pixel, t->columns, end);
    for (int v = 0; v < vectors; v++)
        *(Vector *)(totals + v * LANES) = sum[0][v];
}

INLINE REAL *shifted(REAL *result, int64_t by) { return result ? result + by : 0; }

/* All inputs, some outputs: `vectors` of them, from number `output` of group `group` on. */
INLINE void block(const int vectors, const int most, const int within, const Correlation *t, const Results *r, const REAL *x,
                  const REAL *e, const REAL *end, int64_t at, int64_t group, int64_t output)
{
    if (r->totals)
        add_errors(vectors, within, t, e, end, r->totals + at);
    const REAL *reference = r->reference;
    if (reference)
        reference += group * t->kernel_high * t->kernel_wide * t->inputs * t->padded + output;
#define TILE(size)                                                                                                     \
    tile(size, vectors, t, &part, part.x + c, e, end, within, reference ? reference + c * t->padded : 0,               \
         shifted(r->squares, at), shifted(r->magnitudes, at), shifted(r->products, at))
    for (int64_t i = 0; i < t->kernel_high; i++)
        for (int64_t j = 0; j < t->kernel_wide; j++) {
            Part part = part_of(t, x, i, j);
            for (int64_t c = 0; c < t->inputs;) {
                int64_t left = t->inputs - c;
                if (left >= most) {
                    TILE(most);
                    c += most;
                } else if (left >= 8 && most > 8) {
                    TILE(8);
                    c += 8;
                } else if (left >= 4) {
                    TILE(4);
                    c += 4;
                } else if (left == 3) {
                    TILE(3);
                    c += 3;
                } else if (left == 2) {
                    TILE(2);
                    c += 2;
                } else {
                    TILE(1);
                    c += 1;
                }
            }
            if (reference)
                reference += t->inputs * t->padded;
        }
#undef TILE
}

/* The statistics of all samples. The results have to be zero before, and `errors` ends before `end`. */
void correlate(const Correlation *task, const REAL *inputs, const REAL *errors, const REAL *end, const Results *results)
{
    int64_t blocks = (task->padded + 2 * LANES - 1) / (2 * LANES), each = task->groups * blocks;
    int64_t last = (task->rows - 1) * task->error_row + (task->columns - 1) * task->error_pixel;
#pragma omp parallel for num_threads(task->threads) schedule(static)
    for (int64_t n = 0; n < task->batch * each; n++) {
        int64_t sample = n / each, group = n % each / blocks, output = n % blocks * 2 * LANES;
        const REAL *x = inputs + sample % task->samples * task->input_sample + group * task->inputs;
        const REAL *e = errors + sample * task->error_sample + group * task->outputs + output;
        int64_t at = (sample * task->groups + group) * task->padded + output;
        int vectors = output + 2 * LANES <= task->padded ? 2 : 1, within = end - e < last + vectors * LANES;
        if (vectors == 2 && within)
            block(2, BROAD, 1, task, results, x, e, end, at, group, output);
        else if (vectors == 2)
            block(2, BROAD, 0, task, results, x, e, end, at, group, output);
        else if (within)
            block(1, NARROW, 1, task, results, x, e, end, at, group, output);
        else
            block(1, NARROW, 0, task, results, x, e, end, at, group, output);
    }
}

int64_t lanes(void) { return LANES; }
