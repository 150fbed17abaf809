"""What can go wrong in a pass, and is put right by another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from gradiometer.errors import GradiometerError, of_the_model


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


@contextmanager
def as_failure_of_the_model(model: nn.Module, forward: Callable[[Any], Any], x: Any) -> Iterator[None]:
    """Report whatever is raised while the model is watched as its own error, if it also fails with nobody looking.

    Args:
        model: The model.
        forward: Its forward pass.
        x: What it was called with.

    Raises:
        ModelError: The model cannot be called with such samples.
    """
    try:
        yield
    except GradiometerError:
        raise
    except Exception:
        with torch.no_grad(), of_the_model(model, x):
            forward(x)
        raise
