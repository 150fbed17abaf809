"""How much memory some work takes at most: what the tensors hold that it makes, at the moment when they hold most."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gradiometer.gradients.factors import CHUNK
from gradiometer.gradients.tape import tensors_of

#: What a reading takes in practice, as a multiple of what its tensors hold: gaps between them, and what kernels take.
_OVERHEAD = 1.85
#: The same of what a forward pass keeps for the backward pass alone.
_OVERHEAD_OF_KEPT = 2
#: Numbers of samples on which memory is measured.
FEW, MORE = 1, 3


@dataclass(frozen=True)
class Need:
    """The memory that a reading takes on top of the model: a part for any batch, and one for each sample.

    Attributes:
        fixed: Bytes for a batch of any size.
        sample: Bytes for each sample.
    """

    fixed: int
    sample: int

    @classmethod
    def measured(cls, read: Callable[[int], object], parameters: Iterable[Tensor], device: torch.device) -> Need:
        """Measure a reading of a few samples.

        Args:
            read: Reads a number of samples, `FEW` or `MORE`.
            parameters: Those that are read. Weights of images may be copied for a larger batch.
            device: Where.
        """
        few, more = (peak_of(lambda count=count: read(count), device) for count in (FEW, MORE))  # type: ignore[misc]
        sample = max(1, (more - few) // (MORE - FEW))
        copies = sum(each.numel() * each.element_size() for each in parameters if each.ndim > 3)
        return cls(max(0, few - FEW * sample) + copies + CHUNK, round(_OVERHEAD * sample))

    def of(self, size: int) -> int:
        """Bytes for a batch of so many samples."""
        return self.fixed + size * self.sample

    def batch(self, memory: int) -> int:
        """How many samples fit into a working memory, at least one."""
        return max(1, (memory - self.fixed) // self.sample)

    def parts(self, memory: int, directions: int, each: int, results: int) -> tuple[int, int]:
        """How many samples fit with several directions together, and how many of those at a time.

        All directions at a time, unless there is no memory for that even with a single sample.

        Args:
            memory: The working memory in bytes.
            directions: Number of directions.
            each: Bytes that are kept of one sample for one direction.
            results: Bytes of the results for one sample.
        """
        left, each = memory - self.fixed - CHUNK, max(1, round(_OVERHEAD * each))
        batch = left // (self.sample + directions * each + results)
        if batch > 0:
            return batch, directions
        return 1, max(1, min(directions, (left - self.sample - results) // each))


class Peak(TorchDispatchMode):
    """Counts the bytes of tensors that were made inside and are still alive.

    Attributes:
        bytes: The largest number of bytes alive at a time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self._alive = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by torch in place of every kernel."""
        given = {tensor.untyped_storage()._cdata for tensor in _storing([*args, *(kwargs or {}).values()])}
        result = function(*args, **(kwargs or {}))
        for tensor in _storing(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in given and storage._cdata not in self._known:
                self._enter(storage)
        return result

    def _enter(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self._alive += size
        self.bytes = max(self.bytes, self._alive)
        weakref.finalize(storage, self._leave, key, size).atexit = False

    def _leave(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._alive -= size


def peak_of(work: Callable[[], object], device: torch.device) -> int:
    """Bytes that some work takes at most on a device.

    Args:
        work: What is done.
        device: Where. On CUDA the allocator is asked, elsewhere tensors are counted as they come and go; what a kernel
            takes for itself is not seen there.
    """
    if device.type == "cuda":
        before = int(torch.cuda.memory_allocated(device))
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return int(torch.cuda.max_memory_allocated(device)) - before
    try:
        peak = Peak()
        with peak:
            work()
    except RuntimeError:  # compiled parts of a model cannot be watched kernel by kernel
        kept = _Kept()
        with kept:
            work()
        return _OVERHEAD_OF_KEPT * kept.bytes
    return peak.bytes


class _Kept(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that a forward pass keeps for the backward pass."""

    def __init__(self) -> None:
        self.bytes = 0
        seen: set[int] = set()

        def keep(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                self.bytes += tensor.numel() * tensor.element_size()
            return tensor

        super().__init__(keep, lambda tensor: tensor)


def _storing(value: Any) -> Iterator[Tensor]:
    """The tensors among some values that hold memory of their own kind."""
    return (tensor for tensor in tensors_of(value) if tensor.layout == torch.strided)
