/* Statistics of the weight gradient of a depthwise convolution, for each sample on its own: one input and one output in
   each group, so that a vector holds neighbouring channels.

   The gradient of a channel at one kernel element is a sum over positions of products of an input and an error. Those of
   a row of the kernel are summed up in registers together; then their squares, magnitudes and products with a reference
   are added to those of the channel, and they are forgotten.

   `groups` are the channels, and `padded` is 1: results are (batch, groups), the reference (kernel_high, kernel_wide,
   groups).

   Compiled once for REAL = float and once for REAL = double. */

#include "correlation.h"

/* Elements of a kernel row that are summed up at once, and vectors of channels. */
#define RUN 7
#define VECTORS 2

/* Some channels; of the last ones there may be fewer than a vector holds. */
INLINE Vector some(const REAL *from, const int whole, int64_t count)
{
    if (whole)
        return *(const Vector *)from;
    Vector found = {0};
    memcpy(&found, from, (size_t)count * sizeof(REAL));
    return found;
}

/* Some elements of a kernel row, for all positions of a row of the image. */
INLINE void add_positions(const int run, const int vectors, const int whole, int64_t count, const Correlation *t, int64_t left,
                          const REAL *x, const REAL *e, Vector sum[RUN][VECTORS])
{
    int64_t from = 0, to = t->columns, begins[RUN], ends[RUN], gap = t->dilation_right * t->input_pixel;
    for (int j = 0; j < run; j++) {
        on_image(left + j * t->dilation_right, t->stride_right, t->width, t->columns, &begins[j], &ends[j]);
        from = begins[j] > from ? begins[j] : from;
        to = ends[j] < to ? ends[j] : to;
    }
    if (to < from)
        to = from;
    for (int64_t q = 0; q < t->columns; q++) {
        if (q == from && from < to) {
            /* All of the elements lie on the image. */
            const REAL *at = x + (left + q * t->stride_right) * t->input_pixel, *error = e + q * t->error_pixel;
            for (; q < to; q++, at += t->stride_right * t->input_pixel, error += t->error_pixel)
                for (int v = 0; v < vectors; v++) {
                    Vector here = some(error + v * LANES, whole, count);
                    for (int j = 0; j < run; j++)
                        sum[j][v] += some(at + j * gap + v * LANES, whole, count) * here;
                }
            if (q >= t->columns)
                break;
        }
        for (int j = 0; j < run; j++)
            if (q >= begins[j] && q < ends[j])
                for (int v = 0; v < vectors; v++)
                    sum[j][v] += some(x + (left + q * t->stride_right) * t->input_pixel + j * gap + v * LANES, whole, count)
                                 * some(e + q * t->error_pixel + v * LANES, whole, count);
    }
}

/* Results of a vector of channels, from number `from` to the one before `to`. */
INLINE void put(REAL *place, int64_t from, int64_t to, Vector values)
{
    memcpy(place + from, (const char *)&values + (size_t)from * sizeof(REAL), (size_t)(to - from) * sizeof(REAL));
}

/* All of some channels: `vectors` of them, or `count` where they do not fill one. The first `known` are known already. */
INLINE void channels_of(const int vectors, const int whole, int64_t count, int64_t known, const Correlation *t,
                        const Results *r, const REAL *x, const REAL *e, int64_t at)
{
    Vector squares[VECTORS] = {{0}}, magnitudes[VECTORS] = {{0}}, totals[VECTORS] = {{0}}, products[VECTORS] = {{0}};
    int64_t sample = at / t->groups, channel = at % t->groups;
    x += sample % t->samples * t->input_sample + channel;
    e += sample * t->error_sample + channel;
    const REAL *reference = r->reference ? r->reference + channel : 0;
    if (r->totals)
        for (int64_t row = 0; row < t->rows; row++)
            for (int64_t q = 0; q < t->columns; q++)
                for (int v = 0; v < vectors; v++)
                    totals[v] += some(e + row * t->error_row + q * t->error_pixel + v * LANES, whole, count);
    for (int64_t i = 0; i < t->kernel_high; i++) {
        int64_t top = i * t->dilation_down - t->padding_top, first, last;
        on_image(top, t->stride_down, t->height, t->rows, &first, &last);
        for (int64_t j = 0; j < t->kernel_wide;) {
            Vector sum[RUN][VECTORS];
            int64_t left = j * t->dilation_right - t->padding_left, rest = t->kernel_wide - j;
            memset(sum, 0, sizeof sum);
#define RUNS(size)                                                                                                     \
    for (int64_t row = first; row < last; row++)                                                                       \
        add_positions(size, vectors, whole, count, t, left, x + (top + row * t->stride_down) * t->input_row,           \
                      e + row * t->error_row, sum);                                                                    \
    rest = size
            if (rest >= 7) {
                RUNS(7);
            } else if (rest >= 5) {
                RUNS(5);
            } else if (rest >= 3) {
                RUNS(3);
            } else {
                RUNS(1);
            }
#undef RUNS
            for (int64_t k = 0; k < rest; k++)
                for (int v = 0; v < vectors; v++) {
                    squares[v] += sum[k][v] * sum[k][v];
                    magnitudes[v] += magnitude(sum[k][v]);
                    if (reference)
                        products[v] += sum[k][v] * some(reference + ((i * t->kernel_wide + j + k) * t->groups) + v * LANES, whole, count);
                }
            j += rest;
        }
    }
    for (int v = 0; v < vectors; v++) {
        int64_t to = at + v * LANES, end = whole ? LANES : count;
        if (r->squares)
            put(r->squares + to, known, end, squares[v]);
        if (r->magnitudes)
            put(r->magnitudes + to, known, end, magnitudes[v]);
        if (r->totals)
            put(r->totals + to, known, end, totals[v]);
        if (r->products)
            put(r->products + to, known, end, products[v]);
    }
}

/* The statistics of all samples. */
void depthwise(const Correlation *task, const REAL *inputs, const REAL *errors, const Results *results)
{
    int64_t wide = VECTORS * LANES, blocks = (task->groups + wide - 1) / wide;
#pragma omp parallel for num_threads(task->threads) schedule(static)
    for (int64_t n = 0; n < task->batch * blocks; n++) {
        int64_t channel = n % blocks * wide, at = n / blocks * task->groups + channel, left = task->groups - channel;
        if (left >= wide) {
            channels_of(VECTORS, 1, 0, 0, task, results, inputs, errors, at);
            continue;
        }
        if (left >= LANES) {
            channels_of(1, 1, 0, 0, task, results, inputs, errors, at);
            at += LANES;
            left -= LANES;
        }
        if (left && task->groups >= LANES) /* a whole vector that begins with channels which are known */
            channels_of(1, 1, 0, LANES - left, task, results, inputs, errors, at + left - LANES);
        else if (left)
            channels_of(1, 0, left, 0, task, results, inputs, errors, at);
    }
}
