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

/* One tile, and a row of n positions more. */
INLINE void add_row(const int inputs, const int vectors, Vector sum[NARROW][2], const REAL *x, int64_t x_step,
                    const REAL *e, int64_t e_step, int64_t n)
{
    for (int64_t p = 0; p < n; p++, x += x_step, e += e_step) {
        Vector error[2];
        for (int v = 0; v < vectors; v++)
            error[v] = *(const Vector *)(e + v * LANES);
        for (int c = 0; c < inputs; c++)
            for (int v = 0; v < vectors; v++)
                sum[c][v] += x[c] * error[v];
    }
}

/* The same where a vector may reach beyond the last error there is, at `end`: what lies there is of no interest, but
   must not be touched. */
INLINE void add_row_within(const int inputs, const int vectors, Vector sum[NARROW][2], const REAL *x, int64_t x_step,
                           const REAL *e, int64_t e_step, int64_t n, const REAL *end)
{
    int64_t room = end - e - vectors * LANES;
    int64_t inside = room < 0 ? 0 : room / e_step + 1;
    if (inside > n)
        inside = n;
    add_row(inputs, vectors, sum, x, x_step, e, e_step, inside);
    for (int64_t p = inside; p < n; p++) {
        REAL last[2 * BYTES / sizeof(REAL)] = {0};
        const REAL *from = e + p * e_step;
        memcpy(last, from, (size_t)(end - from) * sizeof(REAL));
        add_row(inputs, vectors, sum, x + p * x_step, 0, last, 0, 1);
    }
}

/* All kernel offsets of a tile. */
INLINE void tile(const int inputs, const int vectors, const Correlation *t, const REAL *x, const REAL *e, const REAL *end,
                 const REAL *reference, REAL *squares, REAL *magnitudes, REAL *products)
{
    for (int64_t i = 0; i < t->kernel_high; i++) {
        int64_t top = i * t->dilation_down - t->padding_top, first_row, last_row;
        on_image(top, t->stride_down, t->height, t->rows, &first_row, &last_row);
        for (int64_t j = 0; j < t->kernel_wide; j++) {
            int64_t left = j * t->dilation_right - t->padding_left, from, to;
            on_image(left, t->stride_right, t->width, t->columns, &from, &to);
            Vector sum[NARROW][2];
            for (int c = 0; c < inputs; c++)
                for (int v = 0; v < vectors; v++)
                    sum[c][v] = (Vector){0};
            for (int64_t row = first_row; row < last_row; row++)
                add_row_within(inputs, vectors, sum,
                               x + (top + row * t->stride_down) * t->input_row + (left + from * t->stride_right) * t->input_pixel,
                               t->stride_right * t->input_pixel,
                               e + row * t->error_row + from * t->error_pixel, t->error_pixel, to - from, end);
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
            reference += products ? t->inputs * t->padded : 0;
        }
    }
}

/* Sums of the errors themselves: the gradients of a shift. */
INLINE void add_errors(const int vectors, const Correlation *t, const REAL *e, const REAL *end, REAL *totals)
{
    const REAL one = 1;
    Vector sum[NARROW][2] = {{{0}}};
    for (int64_t row = 0; row < t->rows; row++)
        add_row_within(1, vectors, sum, &one, 0, e + row * t->error_row, t->error_pixel, t->columns, end);
    for (int v = 0; v < vectors; v++)
        *(Vector *)(totals + v * LANES) = sum[0][v];
}

INLINE REAL *shifted(REAL *result, int64_t by) { return result ? result + by : 0; }

/* All inputs, some outputs: `vectors` of them, from number `output` of group `group` on. */
INLINE void block(const int vectors, const int most, const Correlation *t, const Results *r, const REAL *x, const REAL *e,
                  const REAL *end, int64_t sample, int64_t group, int64_t output)
{
    int64_t at = (sample * t->groups + group) * t->padded + output;
    x += sample * t->input_sample + group * t->inputs;
    e += sample * t->error_sample + group * t->outputs + output;
    if (r->totals)
        add_errors(vectors, t, e, end, r->totals + at);
    const REAL *reference = r->reference;
    if (reference)
        reference += group * t->kernel_high * t->kernel_wide * t->inputs * t->padded + output;
#define TILE(size)                                                                                                     \
    tile(size, vectors, t, x + c, e, end, reference ? reference + c * t->padded : 0, shifted(r->squares, at),          \
         shifted(r->magnitudes, at), shifted(r->products, at))
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
#undef TILE
}

/* The statistics of all samples. The results have to be zero before, and `errors` ends before `end`. */
void correlate(const Correlation *task, const REAL *inputs, const REAL *errors, const REAL *end, const Results *results)
{
    int64_t blocks = (task->padded + 2 * LANES - 1) / (2 * LANES), each = task->groups * blocks;
#pragma omp parallel for num_threads(task->threads) schedule(static)
    for (int64_t n = 0; n < task->batch * each; n++) {
        int64_t sample = n / each, group = n % each / blocks, output = n % blocks * 2 * LANES;
        if (output + 2 * LANES <= task->padded)
            block(2, BROAD, task, results, inputs, errors, end, sample, group, output);
        else
            block(1, NARROW, task, results, inputs, errors, end, sample, group, output);
    }
}

int64_t lanes(void) { return LANES; }
