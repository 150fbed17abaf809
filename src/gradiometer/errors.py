"""The errors of this package. Each message says what was wrong, with which value, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_SIGNS_OF_A_DEVICE = (
    "CUDA error",
    "CUDA out of memory",
    "cuDNN error",
    "CUBLAS_STATUS",
    "MPS backend",
    "can't allocate",
)
"""What PyTorch says where a device or memory fails; it has no class of error for all of it."""


class GradiometerError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(GradiometerError, ValueError):
    """Images, labels or settings that cannot be used: wrong shape, type, range or count, NaN or infinite values."""


class ModelError(GradiometerError, ValueError):
    """A model that cannot be read: train mode, outputs that are not logits, broken weights, samples that mix."""


class ArtefactError(GradiometerError, ValueError):
    """A saved file that cannot be used: truncated, of another model, of a newer schema, or not one of ours."""


class NotFittedError(GradiometerError, RuntimeError):
    """A detector that is asked for something before the step that makes it possible (fit or calibrate)."""


class DependencyError(GradiometerError, ImportError):
    """An optional dependency is missing; the message names the extra that brings it."""


@contextmanager
def of_the_model(model: object, inputs: object) -> Iterator[None]:
    """Report what a model raises in its own forward pass as one line.

    Args:
        model: The model that is called in the block.
        inputs: What it is called with: a tensor, or several in tuples, lists or dicts.

    Raises:
        ModelError: In place of the error of the model. Ours are left alone, and so are those of a device or of memory,
            for which other samples are no remedy.
    """
    try:
        yield
    except GradiometerError:
        raise
    except Exception as error:
        if _is_of_a_device(error):
            raise
        found = [tuple(shape) for shape in _shapes(inputs)]
        shapes = " and ".join(map(str, found)) or type(inputs).__name__
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ModelError(
            f"the model, a {type(model).__name__}, fails on a batch of shape {shapes} ({reason}); give "
            + ("images of the size and channels" if any(len(shape) > 2 for shape in found) else "samples of the shape")
            + " that it was made for"
            + (", or convert them with size= and channels=" if any(len(shape) > 2 for shape in found) else "")
            + (", and one image alone as a batch of one, x[None]" if any(len(shape) == 3 for shape in found) else "")
        ) from error


def _is_of_a_device(error: Exception) -> bool:
    """Whether an error says nothing about samples: no memory, or a device that does not answer any more."""
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "AcceleratorError"):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and any(sign in said for sign in _SIGNS_OF_A_DEVICE)


def _shapes(inputs: object) -> Iterator[tuple[int, ...]]:
    """Shapes of the tensors of an input."""
    if isinstance(inputs, dict):
        inputs = tuple(inputs.values())
    if isinstance(inputs, tuple | list):
        for each in inputs:
            yield from _shapes(each)
    elif hasattr(inputs, "shape"):
        yield inputs.shape
