/* What the kernels for convolutions are given, and where they put what they find. */

#include "vectors.h"

/* Sizes are numbers of elements, strides are in elements. `inputs` and `outputs` are those of one group; `padded` is
   the number of outputs of a group that the results and the reference have room for. There may be several errors for each
   image of the inputs: those of all samples, and then those of all samples again. */
typedef struct {
    int64_t batch, samples, groups, inputs, outputs, padded;
    int64_t height, width, rows, columns;
    int64_t kernel_high, kernel_wide, stride_down, stride_right, padding_top, padding_left, dilation_down, dilation_right;
    int64_t input_sample, input_row, input_pixel;
    int64_t error_sample, error_row, error_pixel;
    int64_t threads;
} Correlation;

/* Where results go, (batch, groups, padded) each; `reference` is (groups, kernel_high, kernel_wide, inputs, padded). Any
   of these may be absent. */
typedef struct {
    REAL *squares, *magnitudes, *totals, *products;
    const REAL *reference;
} Results;
