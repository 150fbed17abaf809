"""The table from operations to layer rules, open to users.

A layer rule belongs to a torch function, not to a module class: `F.conv2d` has one rule, whichever module calls it,
and a parameter that is used outside of any module is read the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gradiometer.gradients.factors import Factor
from gradiometer.gradients.layout import Layout


@dataclass
class Call:
    """One call of an operation that takes parameters and activations.

    Attributes:
        function: The torch function.
        arguments: Its arguments by name. Parameters are there as tensors without history.
        wanted: Names of the arguments whose gradients are asked for.
        layouts: Layout of every argument that depends on the batch, by name.
        batch: Number of samples B.
        scale: By what the gradients of the output are still to be multiplied, for each channel, or None: the scale of a
            batch norm that was folded into the operation.
    """

    function: Callable[..., Any]
    arguments: dict[str, Any]
    wanted: frozenset[str]
    layouts: Mapping[str, Layout]
    batch: int
    scale: Tensor | None = None

    def samples(self, name: str) -> Tensor:
        """An activation (B, ...), sample by sample: entry b is that of a batch with sample b alone."""
        tensor: Tensor = self.arguments[name]
        return self.layouts[name].split(tensor, self.batch)

    def weight(self, name: str) -> Tensor:
        """A parameter, or a tensor that was computed from parameters alone."""
        tensor: Tensor = self.arguments[name]
        return tensor

    def get(self, name: str, default: Any = None) -> Any:
        """Any other argument."""
        return self.arguments.get(name, default)


#: What a layer rule is: it maps a call and the gradients of its output (B, ...) to a factor for every wanted argument,
#: or to None for a call that it does not cover.
LayerRule = Callable[[Call, Tensor], dict[str, Factor] | None]


@dataclass(frozen=True)
class Entry:
    """A layer rule with the names of the arguments of its function, in order.

    `shares` says whether it takes activations of B samples with the gradients of the outputs of L B: those of L labels,
    for all samples, and then again. For other rules the activations are copied.
    """

    rule: LayerRule
    arguments: tuple[str, ...]
    shares: bool = False


_TABLE: dict[Any, Entry] = {}


def layer_rule(
    *functions: Callable[..., Any], arguments: str, shares: bool = False
) -> Callable[[LayerRule], LayerRule]:
    """Register a layer rule for torch functions.

    Args:
        functions: The functions, as they are called: `torch.nn.functional.linear`.
        arguments: Names of their positional arguments, separated by spaces.
        shares: Whether the rule takes activations of B samples with gradients of the outputs for several labels; see
            `Entry`.

    Returns:
        A decorator for the rule. A rule that is registered later replaces an earlier one.
    """

    def register(rule: LayerRule) -> LayerRule:
        for function in functions:
            _TABLE[function] = Entry(rule, tuple(arguments.split()), shares)
        return rule

    return register


def find_rule(function: Callable[..., Any]) -> Entry | None:
    """The layer rule of a function, if it has one."""
    try:
        return _TABLE.get(function)
    except TypeError:  # not hashable: surely not registered
        return None
