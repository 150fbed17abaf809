"""Watch a forward pass: every operation that takes a parameter passes through here.

The instrument works on operations, not on modules. A torch-function mode sees every call of a torch function while the
user's model runs, so a parameter is found wherever it is used: in a layer, in two layers, in the parent's `forward`,
in a slice or a product of parameters.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradiometer.gradients.rules.recurrent import unrolled
from gradiometer.gradients.rules.registry import find_rule

#: Functions whose result has no gradient, although their argument has.
_CUTS = frozenset({torch.Tensor.detach, torch.detach, torch.Tensor.requires_grad_, torch.Tensor.detach_})
_CUT_ATTRIBUTES = frozenset({"data", "grad", "shape", "dtype", "device", "requires_grad", "is_leaf", "grad_fn"})
_DESCRIPTIONS = frozenset({"shape", "dtype", "device", "ndim", "requires_grad", "is_leaf"})
_IN_PLACE = frozenset({"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__", "__imatmul__"})
#: The attribute that says which parameters a tensor was computed from.
MARK = "_gradiometer_roots"


#: Nesting of one argument: None for a leaf, or the type of a sequence and the nesting of its items.
Nesting = tuple[type, tuple[Any, ...]] | None
#: Nesting of positional arguments, and of those by name.
Structure = tuple[tuple[Nesting, ...], tuple[tuple[str, Nesting], ...]]


@dataclass
class Operation:
    """One call of a torch function that takes parameters.

    Attributes:
        function: The torch function.
        leaves: All arguments, flat.
        structure: What puts them together again.
        roots: For each weight among the leaves, by position: the names of the parameters it was computed from.
    """

    function: Callable[..., Any]
    leaves: list[Any]
    structure: Structure
    roots: dict[int, frozenset[str]]

    @property
    def name(self) -> str:
        """The function's name, to recognise the operation in another pass."""
        owner = getattr(self.function, "__self__", None)
        return f"{getattr(owner, '__name__', '')}.{getattr(self.function, '__name__', str(self.function))}"

    @property
    def in_place(self) -> bool:
        """Whether the operation changes its first argument."""
        name = getattr(self.function, "__name__", "")
        return (name.endswith("_") and not name.endswith("__")) or name in _IN_PLACE

    def others(self) -> Iterator[tuple[int, Tensor]]:
        """Positions and values of the tensors that are no weights."""
        for position, leaf in enumerate(self.leaves):
            if isinstance(leaf, Tensor) and position not in self.roots:
                yield position, leaf

    def run(self, replaced: Mapping[int, Any] | None = None) -> Any:
        """Call the function, with some of the leaves replaced."""
        replaced = replaced or {}
        leaves = [replaced.get(at, leaf) for at, leaf in enumerate(self.leaves)]
        args, kwargs = rebuild(self.structure, leaves)
        return self.function(*args, **kwargs)

    @functools.cached_property
    def named(self) -> dict[str, Any]:
        """The arguments by name, with the position of each leaf in its place, of a function that has a rule."""
        entry = find_rule(self.function)
        assert entry is not None
        args, kwargs = self.places()
        return {**dict(zip(entry.arguments, args, strict=False)), **kwargs}

    @functools.cached_property
    def positions(self) -> dict[str, int]:
        """Positions of the leaves by name of the argument, of a function that has a rule."""
        return {name: place for name, place in self.named.items() if isinstance(place, int)}

    def places(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, positional and by name, with the position of each leaf in its place."""
        return rebuild(self.structure, range(len(self.leaves)))


def roots_of(names: Mapping[int, frozenset[str]], value: Any) -> frozenset[str] | None:
    """Names of the parameters a tensor was computed from, if it was computed from parameters alone.

    Args:
        names: The name of each watched parameter, by its `id`.
        value: Anything.
    """
    if not isinstance(value, Tensor):
        return None
    return names.get(id(value)) or value.__dict__.get(MARK)


class Tape(TorchFunctionMode):
    """Base of the two watchers, `Probe` and `Reader`: finds the operations and leaves to them what to do.

    Args:
        parameters: The parameters to watch, by name.

    Attributes:
        names: The name of each watched parameter, by its `id`.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = {id(parameter): frozenset({name}) for name, parameter in parameters.items()}
        self._noted: list[tuple[weakref.ref[Tensor], str]] = []

    def close(self) -> None:
        """Take back the notes on tensors."""
        for reference, name in self._noted:
            if (tensor := reference()) is not None and hasattr(tensor, name):
                delattr(tensor, name)
        self._noted = []

    def note(self, tensor: Tensor, name: str, value: Any) -> None:
        """Note something on a tensor until the watch is over."""
        setattr(tensor, name, value)
        self._noted.append((weakref.ref(tensor), name))

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by torch in place of every torch function."""
        kwargs = kwargs or {}
        if not self._has_weights(args, kwargs) or not torch.is_grad_enabled() or _cuts(function):
            return self.plain(function, args, kwargs)
        if (inner := unrolled(function, args)) is not None or (inner := _opened(function)) is not None:
            with self:
                return inner(*args, **kwargs)
        leaves, structure = flatten(args, kwargs)
        roots = {at: found for at, leaf in enumerate(leaves) if (found := self.roots(leaf))}
        return self.operation(Operation(function, leaves, structure, roots))

    def plain(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation without parameters."""
        return function(*args, **kwargs)

    def operation(self, operation: Operation) -> Any:
        """An operation with parameters among its arguments; returns its result."""
        return operation.run()

    def roots(self, value: Any) -> frozenset[str] | None:
        """Names of the parameters a tensor was computed from, if it was computed from parameters alone."""
        return roots_of(self.names, value)

    def mark_weights(self, result: Any, operation: Operation) -> None:
        """Remember that a result was computed from parameters alone."""
        roots = frozenset().union(*operation.roots.values())
        for tensor in tensors_of(result):
            if tensor.is_floating_point() and id(tensor) not in self.names:
                self.note(tensor, MARK, roots)

    def _has_weights(self, args: Any, kwargs: Any) -> bool:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                if id(value) in self.names or MARK in value.__dict__:
                    return True
            elif isinstance(value, list | tuple) and value and self._has_weights(value, {}):
                return True
        return False


def flatten(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], Structure]:
    """Take arguments apart. Sequences are opened only if they hold tensors, so most calls are flat from the start."""
    leaves: list[Any] = []
    positional = tuple(_flatten(value, leaves) for value in args)
    named = tuple((name, _flatten(value, leaves)) for name, value in kwargs.items())
    return leaves, (positional, named)


def rebuild(structure: Structure, leaves: Iterable[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put arguments together again from their leaves."""
    rest = iter(leaves)
    positional, named = structure
    args = tuple(next(rest) if nesting is None else _rebuild(nesting, rest) for nesting in positional)
    return args, {name: next(rest) if nesting is None else _rebuild(nesting, rest) for name, nesting in named}


def _flatten(value: Any, leaves: list[Any]) -> Nesting:
    if isinstance(value, list | tuple) and any(isinstance(item, Tensor | list | tuple) for item in value):
        return type(value), tuple(_flatten(item, leaves) for item in value)
    leaves.append(value)
    return None


def _rebuild(nesting: Nesting, rest: Iterator[Any]) -> Any:
    if nesting is None:
        return next(rest)
    kind, inner = nesting
    items = [_rebuild(item, rest) for item in inner]
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def tensors_of(value: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_of(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_of(item)


def describes(function: Any) -> bool:
    """Whether a function tells of what kind a tensor is, without reading its values."""
    name = getattr(function, "__name__", "")
    if name == "__get__":
        return getattr(getattr(function, "__self__", None), "__name__", "") in _DESCRIPTIONS
    return function in (Tensor.size, Tensor.dim, Tensor.is_floating_point)


def _cuts(function: Any) -> bool:
    if getattr(function, "__name__", "") == "__get__":
        return getattr(getattr(function, "__self__", None), "__name__", "") in _CUT_ATTRIBUTES
    try:
        return function in _CUTS
    except TypeError:
        return False


def _never(*_: Any) -> bool:
    return False


_BLIND = dict.fromkeys(("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"), _never)


def _opened(function: Any) -> Callable[..., Any] | None:
    """A composite function of torch, such as multi-head attention, made transparent; None for any other."""
    if not isinstance(function, types.FunctionType) or find_rule(function) is not None:
        return None
    return _transparent(function)


@functools.cache
def _transparent(function: types.FunctionType) -> Callable[..., Any]:
    """A copy of a composite function that does not hand itself over to a torch-function mode as a whole.

    It runs instead, and the operations inside pass through the mode one by one.
    """
    copy = types.FunctionType(
        function.__code__,
        {**function.__globals__, **_BLIND},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
