/* Squared norms of the weight gradient of a linear layer, for each sample on its own, without forming the gradient.

   The gradient of a sample is a sum over positions s of outer products of errors and inputs, so that its squared norm is
   the sum over pairs of positions of (x[s] . x[t]) (e[s] . e[t]). Tiles of both Gram matrices are formed in registers,
   multiplied and forgotten; of the pairs s, t and t, s one is taken, twice.

   Compiled once for REAL = float and once for REAL = double. */

#include "vectors.h"

/* Positions of a tile on either side: as many sums as there are registers for. */
#if BYTES == 64
#define SIDE 5
#else
#define SIDE 3
#endif

/* Sizes are numbers of elements, strides are in elements; the numbers of a position follow each other. The two factors
   of the gradient are told apart by their size. */
typedef struct {
    int64_t batch, positions, narrow, broad;
    int64_t narrow_sample, narrow_position, broad_sample, broad_position;
    int64_t threads;
} Sequence;

/* The last few numbers of a position, with zeros behind them. */
INLINE Vector ending(const REAL *from, int64_t count)
{
    Vector found = {0};
    memcpy(&found, from, (size_t)count * sizeof(REAL));
    return found;
}

INLINE void add(Vector sum[SIDE][SIDE], const Vector left[SIDE], const Vector right[SIDE])
{
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++)
            sum[i][j] += left[i] * right[j];
}

/* One tile of a Gram matrix, whose elements are the sums of these vectors. */
INLINE void tile(const REAL *const s[SIDE], const REAL *const t[SIDE], int64_t size, Vector sum[SIDE][SIDE])
{
    Vector left[SIDE], right[SIDE];
    memset(sum, 0, sizeof(Vector) * SIDE * SIDE);
    int64_t at = 0;
    for (; at + LANES <= size; at += LANES) {
        for (int i = 0; i < SIDE; i++) {
            left[i] = *(const Vector *)(s[i] + at);
            right[i] = *(const Vector *)(t[i] + at);
        }
        add(sum, left, right);
    }
    if (at < size) {
        for (int i = 0; i < SIDE; i++) {
            left[i] = ending(s[i] + at, size - at);
            right[i] = ending(t[i] + at, size - at);
        }
        add(sum, left, right);
    }
}

INLINE REAL total(Vector values)
{
    REAL each[BYTES / sizeof(REAL)];
    memcpy(each, &values, sizeof each);
    for (int64_t half = LANES / 2; half; half /= 2)
        for (int64_t k = 0; k < half; k++)
            each[k] += each[k + half];
    return each[0];
}

/* Where positions begin; those beyond the last stand for it, and count nothing. */
INLINE void places(const REAL *from, int64_t step, int64_t first, int64_t positions, const REAL *place[SIDE])
{
    for (int i = 0; i < SIDE; i++)
        place[i] = from + (first + i < positions ? first + i : positions - 1) * step;
}

int64_t side(void) { return SIDE; }

/* Squared norms, as sums (batch, blocks) over blocks of `side()` positions and all that come behind them. */
void sequence(const Sequence *task, const REAL *narrow, const REAL *broad, REAL *results)
{
    int64_t positions = task->positions, blocks = (positions + SIDE - 1) / SIDE;
#pragma omp parallel for num_threads(task->threads) schedule(dynamic, 4)
    for (int64_t n = 0; n < task->batch * blocks; n++) {
        int64_t sample = n / blocks, first = n % blocks * SIDE;
        const REAL *x = narrow + sample * task->narrow_sample, *e = broad + sample * task->broad_sample;
        const REAL *x_here[SIDE], *e_here[SIDE], *x_there[SIDE], *e_there[SIDE];
        places(x, task->narrow_position, first, positions, x_here);
        places(e, task->broad_position, first, positions, e_here);
        Vector found = {0};
        for (int64_t then = first; then < positions; then += SIDE) {
            Vector sum[SIDE][SIDE];
            REAL weight[SIDE][SIDE];
            places(x, task->narrow_position, then, positions, x_there);
            places(e, task->broad_position, then, positions, e_there);
            tile(x_here, x_there, task->narrow, sum);
            for (int i = 0; i < SIDE; i++)
                for (int j = 0; j < SIDE; j++) {
                    int64_t s = first + i, t = then + j;
                    weight[i][j] = s >= positions || t >= positions || t < s ? 0 : total(sum[i][j]) * (t > s ? 2 : 1);
                }
            tile(e_here, e_there, task->broad, sum);
            for (int i = 0; i < SIDE; i++)
                for (int j = 0; j < SIDE; j++)
                    found += weight[i][j] * sum[i][j];
        }
        results[n] = total(found);
    }
}
