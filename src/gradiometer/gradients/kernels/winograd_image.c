/* The gradient of the images of a convolution: a convolution of the errors with the kernel turned around.

   Compiled once for REAL = float and once for REAL = double. */

#include "winograd.h"

/* Tiles and vectors of image channels that are summed up at once: as many sums as there are registers for. */
#define ROWS 6
#if BYTES == 64
#define BROAD 4
#else
#define BROAD 2
#endif

/* Tiles that a thread works on at a time, multiples of twice ROWS. If the weights of all inputs at all points, at most so
   many bytes of them, are made in one round, the values of the tiles fit into the cache of a thread. If it takes several
   rounds, the weights of a round do, and there are more tiles for each of them. */
#define FEW 24
#define MANY 60
#define WEIGHTS (INT64_C(10) << 20)

/* Sizes are numbers of elements, steps are in elements. `padding_top` and `padding_left` are those around the errors: two
   less the padding of the convolution. */
typedef struct {
    int64_t batch, inputs, outputs;
    int64_t height, width, rows, columns, padding_top, padding_left;
    int64_t input_sample, input_row, input_pixel;
    int64_t error_sample, error_row, error_pixel;
    int64_t threads;
} Gradient;

/* Vectors of the block of image channels that begins with one of them. */
INLINE int block_of(const Gradient *t, int64_t channel)
{
    int64_t left = (t->inputs - channel) / LANES;
    return left >= BROAD ? BROAD : left >= 2 ? 2 : 1;
}

/* Image channels of a round. */
INLINE int64_t round_of(int64_t inputs, int64_t outputs)
{
    int64_t fits = POINTS * inputs * outputs * (int64_t)sizeof(REAL) <= WEIGHTS;
    return fits || inputs < BROAD * LANES ? inputs : BROAD * LANES;
}

/* Tiles of a portion. */
INLINE int64_t portion_of(const Gradient *t, int64_t tiles)
{
    int64_t share = (tiles + t->threads - 1) / t->threads;
    if (round_of(t->inputs, t->outputs) == t->inputs)
        return FEW;
    return share < MANY ? (share + 2 * ROWS - 1) / (2 * ROWS) * (2 * ROWS) : MANY;
}

/* The weights of one output and the inputs of a round, given as (3, 3, outputs, inputs), at all points: (points, blocks of
   inputs, outputs, channels of a block). */
static void kernel_at_points(const Gradient *t, const REAL *kernel, int64_t output, int64_t first, int64_t width, REAL *to)
{
    int64_t weights = t->outputs * t->inputs;
    for (int64_t c = first; c < first + width; c += block_of(t, c) * LANES)
        for (int v = 0; v < block_of(t, c); v++) {
            const REAL *from = kernel + output * t->inputs + c + v * LANES;
            REAL *place = to + (c - first) * t->outputs + (output * block_of(t, c) + v) * LANES;
            Vector halfway[6][3], line[6];
            for (int j = 0; j < 3; j++) {
                for (int i = 0; i < 3; i++)
                    line[i] = *(const Vector *)(from + ((2 - i) * 3 + 2 - j) * weights);
                factor_at_points(3, line, &halfway[0][j], 3);
            }
            for (int i = 0; i < 6; i++) {
                factor_at_points(3, halfway[i], line, 1);
                for (int j = 0; j < 6; j++)
                    *(Vector *)(place + (i * 6 + j) * width * t->outputs) = line[j];
            }
        }
}

/* Some tiles times a block of image channels at one point, summed up over the channels of the errors. */
INLINE void multiply(const int rows, const int vectors, int64_t outputs, int64_t portion, const REAL *errors, int64_t point,
                     int64_t tile, const REAL *kernel, REAL *to, int64_t width)
{
    Vector sum[2 * ROWS][BROAD];
    for (int n = 0; n < rows; n++)
        for (int v = 0; v < vectors; v++)
            sum[n][v] = (Vector){0};
    for (int64_t first = 0; first < outputs; first += 2 * LANES) {
        int64_t panel = panel_width(outputs, first);
        const REAL *from = errors + panel_start(portion, first) + point * point_size(portion, panel) + tile * panel;
        for (int64_t o = 0; o < panel; o++, kernel += vectors * LANES)
            for (int v = 0; v < vectors; v++) {
                Vector factor = *(const Vector *)(kernel + v * LANES);
                for (int n = 0; n < rows; n++)
                    sum[n][v] += from[n * panel + o] * factor;
            }
    }
    for (int n = 0; n < rows; n++)
        for (int v = 0; v < vectors; v++)
            *(Vector *)(to + (tile + n) * width + v * LANES) = sum[n][v];
}

/* The products of `count` tiles at one point, with the image channels of a round. */
static void multiply_all(const Gradient *t, int64_t portion, int64_t count, const REAL *errors, int64_t point,
                         const REAL *kernel, int64_t first, int64_t width, REAL *to)
{
    kernel += point * t->outputs * width;
    to += point * point_size(portion, width);
#define TILES(rows, vectors) multiply(rows, vectors, t->outputs, portion, errors, point, n, block, to + c, width)
    for (int64_t c = 0; c < width; c += block_of(t, first + c) * LANES) {
        const REAL *block = kernel + c * t->outputs;
        int vectors = block_of(t, first + c);
        for (int64_t n = 0; n < count; n += vectors == BROAD ? ROWS : 2 * ROWS)
            if (vectors == BROAD)
                TILES(ROWS, BROAD);
            else if (vectors == 2)
                TILES(2 * ROWS, 2);
            else
                TILES(2 * ROWS, 1);
    }
#undef TILES
}

/* The products of a tile back to its pixels, as many of them as there are, and the channels of a round. */
static void write_tile(const Gradient *t, const REAL *from, int64_t step, int64_t width, int64_t top, int64_t left, REAL *image)
{
    image += top * t->input_row + left * t->input_pixel;
    for (int64_t c = 0; c < width; c += LANES) {
        Vector halfway[SIDE][6], line[6], pixels[4];
        for (int j = 0; j < 6; j++) {
            for (int i = 0; i < 6; i++)
                line[i] = *(const Vector *)(from + (i * 6 + j) * step + c);
            product(SIDE, line, pixels);
            for (int i = 0; i < SIDE; i++)
                halfway[i][j] = pixels[i];
        }
        for (int i = 0; i < SIDE && top + i < t->height; i++) {
            product(SIDE, halfway[i], pixels);
            for (int j = 0; j < SIDE && left + j < t->width; j++)
                *(Vector *)(image + i * t->input_row + j * t->input_pixel + c) = pixels[j];
        }
    }
}

/* Numbers that `image_gradient` needs room for: for the weights of a round, and in each thread. */
int64_t image_gradient_weights(int64_t inputs, int64_t outputs) { return POINTS * round_of(inputs, outputs) * outputs; }
int64_t image_gradient_room(int64_t inputs, int64_t outputs)
{
    int64_t width = round_of(inputs, outputs), most = width == inputs ? FEW : MANY;
    return panel_start(most, outputs) + POINTS * point_size(most, width);
}

/* The gradient of the images. Each thread takes a portion of the tiles, all go through the rounds together, and then each
   takes the next portion. */
void image_gradient(const Gradient *t, const REAL *errors, const REAL *kernel, REAL *images, REAL *weights, REAL *room)
{
    int64_t down = (t->height + SIDE - 1) / SIDE, across = (t->width + SIDE - 1) / SIDE, each = down * across;
    int64_t tiles = t->batch * each, portion = portion_of(t, tiles), width = round_of(t->inputs, t->outputs);
    Image image = {t->rows, t->columns, t->error_row, t->error_pixel};
#pragma omp parallel num_threads(t->threads)
    {
        REAL *spread = room + omp_get_thread_num() * image_gradient_room(t->inputs, t->outputs);
        REAL *products = spread + panel_start(portion, t->outputs);
        int64_t stride = omp_get_num_threads() * portion;
        for (int64_t start = 0; start < tiles; start += stride) {
            int64_t first = start + omp_get_thread_num() * portion, left = tiles - first;
            int64_t count = left < 0 ? 0 : left < portion ? left : portion;
            for (int64_t n = 0; n < count; n++) {
                int64_t sample = (first + n) / each, place = (first + n) % each;
                tile_at_points(6, &image, errors + sample * t->error_sample, place / across * SIDE - t->padding_top,
                               place % across * SIDE - t->padding_left, t->outputs, n, portion, spread);
            }
            for (int64_t c = 0; c < t->inputs; c += width) {
                int64_t channels = t->inputs - c < width ? t->inputs - c : width;
                if (start == 0 || width < t->inputs) {
#pragma omp barrier
#pragma omp for schedule(static)
                    for (int64_t o = 0; o < t->outputs; o++)
                        kernel_at_points(t, kernel, o, c, channels, weights);
                }
                for (int64_t point = 0; point < POINTS; point++)
                    multiply_all(t, portion, count, spread, point, weights, c, channels, products);
                for (int64_t n = 0; n < count; n++) {
                    int64_t sample = (first + n) / each, place = (first + n) % each;
                    write_tile(t, products + n * channels, point_size(portion, channels), channels, place / across * SIDE,
                               place % across * SIDE, images + sample * t->input_sample + c);
                }
            }
        }
    }
}
