"""Prints the worst relative error of the instrument on every network of the zoo: `python -m tests.zoo`."""

from __future__ import annotations

import sys
import time
import warnings

from gradiometer.errors import ModelError
from tests.gradients.measure import STATISTICS, TOLERANCE, worst
from tests.zoo import ZOO

HEADINGS = {"squared_norms": "squared", "absolute_sums": "absolute", "inner_products": "inner", "gradients": "gradient"}


def main(arguments: list[str] | None = None) -> int:
    """Measures every network (or those whose name contains an argument) and prints a table.

    Returns:
        0 when every error is within the tolerance, else 1.
    """
    wanted = sys.argv[1:] if arguments is None else arguments
    chosen = [each for each in ZOO if not wanted or any(part in each.name for part in wanted)]
    width = max((len(each.name) for each in chosen), default=10)
    out = sys.stdout
    columns = [(statistic, dtype) for dtype in TOLERANCE for statistic in STATISTICS]
    out.write(f"{'':{width}}  {'float32':-^39} {'float64':-^39}\n")
    out.write(f"{'network':{width}}  {' '.join(f'{HEADINGS[statistic]:>9}' for statistic, _ in columns)}\n")
    started, failures, refusals = time.perf_counter(), [], []
    summit = dict.fromkeys(TOLERANCE, (0.0, "none"))
    for each in chosen:
        cells = []
        for statistic, dtype in columns:
            try:
                error = worst(each.name, statistic, dtype)
            except ModelError:
                if "may_refuse" not in each.tags:
                    failures.append(f"{each.name}, {statistic}, {dtype}: refused")
                refusals.append(each.name)
                cells.append("refused")
                continue
            except Exception as problem:  # the table goes on: one broken network must not hide the others
                failures.append(
                    f"{each.name}, {statistic}, {dtype}: {type(problem).__name__}: {str(problem)[:200].splitlines()}"
                )
                cells.append("ERROR")
                continue
            where = f"{each.name}, {statistic} of {error.parameter}, sample {error.sample}"
            summit[dtype] = max(summit[dtype], (error.value, where))
            if not error.value <= TOLERANCE[dtype]:
                failures.append(f"{where}, {dtype}: {error.value:.1e}")
            cells.append(f"{error.value:.1e}")
        out.write(f"{each.name:{width}}  {' '.join(f'{cell:>9}' for cell in cells)}\n")
    for dtype, (value, where) in summit.items():
        out.write(f"worst {str(dtype).removeprefix('torch.')}: {value:.2e} (allowed {TOLERANCE[dtype]:.0e}): {where}\n")
    refused = sorted(set(refusals))
    out.write(f"{len(chosen)} networks, {len(refused)} refused ({', '.join(refused) or 'none'}), ")
    out.write(f"{time.perf_counter() - started:.1f} s\n")
    for failure in failures:
        out.write(f"FAILED {failure}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    raise SystemExit(main())
