"""What can go wrong in a pass, and is put right by another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gradiometer.errors import GradiometerError


class ProgramMismatch(Exception):
    """The forward pass took other operations than the program was made for."""


class RuleFailure(Exception):
    """The statistic of some parameters cannot be computed in the way that was planned."""

    def __init__(self, roots: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(roots)))
        self.roots = roots


class Apart(Exception):
    """Several labels cannot be sent back at once; one by one they may."""


class Unsure(Exception):
    """Some statistics may have left the range of float32; a pass that looks at each of them will tell."""


@contextmanager
def as_failure_of(roots: Callable[[], frozenset[str]]) -> Iterator[None]:
    """Report whatever a rule or a statistic raises as a failure of these parameters, which the loop can still read."""
    try:
        yield
    except GradiometerError:
        raise
    except Exception as error:
        raise RuleFailure(roots()) from error
