"""What each form of a convolution's gradient costs, from a few measured constants.

The constants are seconds on one machine, but only their ratios matter: they choose between forms that are all exact.
`benchmarks/forms.py` measures them again.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds for one multiplication and addition in a large matrix product.
PRODUCT = 1 / 60e9
#: Seconds to move one float through memory in an elementwise pass.
MOVE = 1 / 1.5e9
#: Seconds to start one operation on one sample.
START = 2e-6


@dataclass(frozen=True)
class Task:
    """The size of one convolution for one sample and one group."""

    positions: int
    pixels: int
    inputs: int
    outputs: int
    kernel: int
    groups: int


def seconds(form: str, task: Task) -> float:
    """Estimated seconds for one sample.

    Args:
        form: `offsets`, `groups` or `gram`.
        task: The size of the convolution.
    """
    shape = task.inputs * task.outputs
    if form == "gram":
        products = (task.pixels**2 * task.inputs + task.positions**2 * task.outputs) * PRODUCT
        moves = (task.pixels**2 + (task.kernel + 2) * task.positions**2) * MOVE
    elif form == "offsets":
        products = task.kernel * task.positions * shape * PRODUCT * _narrow(task.inputs) * _narrow(task.outputs)
        moves = task.kernel * (task.positions * task.inputs + 2 * shape) * MOVE + task.kernel * START
    else:
        products = (
            task.kernel * task.positions * shape * PRODUCT * (1.0 if max(task.inputs, task.outputs) <= 32 else 2.5)
        )
        moves = (task.pixels * task.inputs + task.positions * task.outputs + 2 * shape * task.kernel) * MOVE
    return task.groups * (products + moves)


def _narrow(channels: int) -> float:
    """Matrix products with few rows or columns do not reach full speed."""
    return max(1.0, 32 / channels)
