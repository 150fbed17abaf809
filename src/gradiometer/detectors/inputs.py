"""Known images, challenges and batches to score, in every form that a detector takes, as batches of one fixed size.

A detector reads its images in the same portions whatever they come in, so that an array, a loader and a stream of the
same images give the same scores to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gradiometer.errors import InputError
from gradiometer.gradients.factors import all_finite

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
"""What a model is called with: a tensor, or several as a tuple or a dict, all with the batch first."""

Integers = npt.NDArray[np.int64]

_LABELS = ("labels", "label")
"""Entries of a dict that hold the labels of its rows and are not given to the model; the first that is there counts."""

_ONE_BY_ONE = "a data set that gives one row at a time goes into a DataLoader"

_FORMS = (
    "a tensor (B, ...), a dict of tensors, a tuple (images, labels), an object with .images and .labels, a data set, "
    "or an iterable (such as a DataLoader) of those"
)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows of a source.

    Attributes:
        inputs: What the model is called with, B rows; images are floating point in [0, 1].
        labels: True classes (B,), or None when the source has none. Negative: not a known image (pytorch-ood's rule).
        groups: Number of the base image of each row (B,), or None when the source does not say.
    """

    inputs: Inputs
    labels: Integers | None = None
    groups: Integers | None = None

    def __len__(self) -> int:
        """Number of rows B."""
        return rows(self.inputs)

    def select(self, index: slice | npt.NDArray[np.bool_]) -> Batch:
        """The rows at an index, as a batch."""
        return Batch(
            take(self.inputs, index),
            None if self.labels is None else self.labels[index],
            None if self.groups is None else self.groups[index],
        )


def leaves(inputs: Inputs) -> list[tuple[str, Tensor]]:
    """The tensors of an input, each with its name (`"input"` for a single one)."""
    if isinstance(inputs, Tensor):
        return [("input", inputs)]
    if isinstance(inputs, dict):
        return [(str(name), tensor) for name, tensor in inputs.items()]
    return [(f"input {position}", tensor) for position, tensor in enumerate(inputs)]


def rows(inputs: Inputs) -> int:
    """Number of samples B of an input."""
    return leaves(inputs)[0][1].shape[0]


def take(inputs: Inputs, index: slice | npt.NDArray[np.bool_]) -> Inputs:
    """The rows of an input at a slice or a mask (B,)."""
    where: Any = index if isinstance(index, slice) else torch.from_numpy(index)
    return mapped(inputs, lambda tensor: tensor[where])


def mapped(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """The same input with every tensor changed, in its order."""
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, dict):
        return {name: change(tensor) for name, tensor in inputs.items()}
    return tuple(change(tensor) for tensor in inputs)


def move(inputs: Inputs, device: torch.device | None, dtype: torch.dtype | None) -> Inputs:
    """The same input on another device, with its floating point tensors in another type; None keeps what it has."""
    return mapped(inputs, lambda tensor: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None))


def batches(source: Any, size: int, role: str) -> Iterator[Batch]:
    """Read a source in portions of one size, the last one possibly smaller.

    Args:
        source: Any of the forms that a detector takes: a tensor (B, ...) or NumPy array, a dict of tensors, or what
            else maps names to tensors (an entry `labels` or `label` holds the labels and is no input of the model), a
            tuple (images, labels), an object with `.images` (and, if it has them, `.labels` and `.groups`), a torch
            data set, or an iterable of those. Integers of type uint8 are images with values 0 to 255 and come out as
            float32 in [0, 1]; everything else is passed on as it is.
        size: Rows of a portion.
        role: What the source is, for messages, such as `"known images"`.

    Yields:
        Batches of exactly `size` rows; only the last may have fewer.

    Raises:
        InputError: The source is of no such form, has labels that do not fit, values that are NaN or infinite, rows
            of different shapes, or no row at all.
    """
    waiting: list[Batch] = []
    count = first = 0
    for piece in _pieces(source, size, role):
        _check(piece.inputs, first, role)
        first += len(piece)
        waiting.append(piece)
        count += len(piece)
        while count >= size:
            joined = _join(waiting, role)
            yield joined.select(slice(0, size))
            waiting, count = [joined.select(slice(size, None))], count - size
    if first == 0:
        raise InputError(f"there is no sample among the {role}; give at least one")
    if count:
        yield _join(waiting, role)


class Again:
    """A source that can be read more than once, also if it comes only once: all its batches are kept in memory.

    Args:
        source: Any of the forms of `batches`.
        size: Rows of a portion.
        role: What the source is, for messages.
    """

    def __init__(self, source: Any, size: int, role: str = "known images") -> None:
        self._source, self._size, self._role = source, size, role
        self._kept: list[Batch] | None = None

    def __iter__(self) -> Iterator[Batch]:
        """The batches, the same each time."""
        if self._kept is None:
            self._kept = list(batches(self._source, self._size, self._role))
        return iter(self._kept)


def _pieces(source: Any, size: int, role: str) -> Iterator[Batch]:
    if isinstance(source, str | bytes) or source is None:
        raise InputError(f"the {role} are {source!r}; give {_FORMS} (gradiometer.data.load reads folders and files)")
    if isinstance(source, Batch):
        yield source
    elif isinstance(source, Dataset):
        yield from _pieces(DataLoader(source, batch_size=size), size, role)
    elif isinstance(source, Mapping):
        # Data sets of Hugging Face, and what is collated from them, have their labels among the inputs.
        inputs = {name: value for name, value in source.items() if name not in _LABELS}
        yield from _rows(inputs, next((source[name] for name in _LABELS if name in source), None), size, role)
    elif hasattr(source, "images"):
        yield from _pieces_of_images(source, size, role)
    elif isinstance(source, Tensor | np.ndarray):
        yield from _rows(source, None, size, role)
    elif isinstance(source, tuple):
        yield from _pair(source, size, role)
    elif isinstance(source, Iterable):
        for item in source:
            # A DataLoader hands out its pairs as lists.
            yield from _pieces(tuple(item) if isinstance(item, list) else item, size, role)
    else:
        raise InputError(f"the {role} are of type {type(source).__name__}; give {_FORMS}")


def _pieces_of_images(source: Any, size: int, role: str) -> Iterator[Batch]:
    count = len(source.images)
    labels = _integers(getattr(source, "labels", None), count, "labels", role)
    groups = _integers(getattr(source, "groups", None), count, "groups", role)
    for start in range(0, count, size):
        part = slice(start, start + size)
        yield Batch(
            _prepare(source.images[part], role),
            None if labels is None else labels[part],
            None if groups is None else groups[part],
        )


def _pair(source: tuple[Any, ...], size: int, role: str) -> Iterator[Batch]:
    if len(source) == 1:  # a data set of images alone, from a data loader
        source = (*source, None)
    if len(source) != 2:
        raise InputError(
            f"the {role} hold a tuple of {len(source)} items, and a tuple means (images, labels); several inputs of "
            "one model go in a dict, or in ((first, second), None)"
        )
    yield from _rows(*source, size, role)


def _rows(images: Any, labels: Any, size: int, role: str) -> Iterator[Batch]:
    if isinstance(images, Tensor | np.ndarray) and images.ndim and images.dtype in (torch.uint8, np.uint8):
        # As float32 they take four times the room, so only a portion at a time.
        classes = _integers(labels, len(images), "labels", role)
        for start in range(0, len(images), size):
            part = slice(start, start + size)
            yield Batch(_prepare(images[part], role), None if classes is None else classes[part])
        return
    inputs = _prepare(images, role)
    yield Batch(inputs, _integers(labels, rows(inputs), "labels", role))


def _prepare(inputs: Any, role: str) -> Inputs:
    if isinstance(inputs, Mapping) and inputs:
        return {name: _tensor(value, role) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list) and inputs:
        return tuple(_tensor(value, role) for value in inputs)
    return _tensor(inputs, role)


def _tensor(value: Any, role: str) -> Tensor:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if not isinstance(value, Tensor):
        raise InputError(f"the {role} hold a {type(value).__name__} where a tensor belongs; give {_FORMS}")
    if value.ndim == 0:
        raise InputError(f"the {role} hold a single number where a tensor with the batch first belongs; {_ONE_BY_ONE}")
    return value.to(torch.float32).div(255) if value.dtype == torch.uint8 else value


def _integers(values: Any, count: int, what: str, role: str) -> Integers | None:
    if values is None:
        return None
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"the {what} of the {role} have type {array.dtype}; give one integer for each image")
    if array.size != count or array.shape[:1] != (count,):
        raise InputError(
            f"the {what} of the {role} have shape {array.shape} for {count} images; "
            + (f"give ({count},)" if array.ndim else _ONE_BY_ONE)
        )
    flat: Integers = array.reshape(-1).astype(np.int64)
    return flat


def _check(inputs: Inputs, first: int, role: str) -> None:
    count = rows(inputs)
    for name, tensor in leaves(inputs):
        if tensor.ndim == 0 or tensor.shape[0] != count:
            raise InputError(f"{name} of the {role} has shape {tuple(tensor.shape)} where others have {count} rows")
        if not (tensor.is_floating_point() or tensor.is_complex()) or all_finite(tensor):
            continue
        bad = first + (~torch.isfinite(tensor.reshape(count, -1)).all(1)).nonzero().flatten().cpu().numpy()
        shown = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        raise InputError(
            f"{name} of the {role} has NaN or infinite values in {len(bad)} row(s) ({shown}); repair or remove them"
        )


def _join(parts: list[Batch], role: str) -> Batch:
    if len(parts) == 1:
        return parts[0]
    kinds = {(type(part.inputs), tuple((n, t.shape[1:], t.dtype) for n, t in leaves(part.inputs))) for part in parts}
    if len(kinds) > 1:
        shapes = sorted({str(tuple(t.shape[1:])) for part in parts for _, t in leaves(part.inputs)})
        raise InputError(f"the {role} have rows of different shapes or types: {', '.join(shapes)}; make them alike")
    first = parts[0].inputs
    inputs: Inputs
    if isinstance(first, Tensor):
        inputs = torch.cat([part.inputs for part in parts if isinstance(part.inputs, Tensor)])
    else:
        named = {n: torch.cat([dict(leaves(part.inputs))[n] for part in parts]) for n, _ in leaves(first)}
        inputs = named if isinstance(first, dict) else tuple(named.values())
    return Batch(inputs, all_or_none([p.labels for p in parts]), all_or_none([p.groups for p in parts]))


def all_or_none(parts: list[Integers | None]) -> Integers | None:
    """The labels or groups of several batches as one, or None when one of them has none."""
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if len(present) == len(parts) else None
