"""A fingerprint of the weights of a model."""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of all parameters and saved buffers, in the order of the names.

    The same for the same weights on every device, in every memory layout, in train and evaluation mode, frozen or
    not. Entries of the state dict that are not tensors do not count. A detector stores it to refuse another model.

    Args:
        model: Any module.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> layer = nn.Linear(2, 3)
        >>> weights_hash(layer) == weights_hash(layer.requires_grad_(False))
        True
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            # repr quotes the name, so that no two different lists of tensors spell the same bytes.
            digest.update(f"{name!r} {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)};".encode())
            digest.update(_bytes(value))
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Seen:
    """The weights of a model as they were when they were looked at, without their values.

    Attributes:
        tensors: All parameters and buffers; held, so that no others take their place in memory.
        states: Where the values of each are, and how often they were written into, as PyTorch counts it.

    Example:
        >>> layer = nn.Linear(2, 3)
        >>> seen = Seen.of(layer)
        >>> seen.still(layer)
        True
        >>> _ = nn.init.zeros_(layer.bias)
        >>> seen.still(layer)
        False
    """

    tensors: tuple[Tensor, ...]
    states: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, model: nn.Module) -> Self:
        """Look at the weights of a model."""
        tensors = (*model.parameters(), *model.buffers())
        return cls(tensors, tuple((one.data_ptr(), 0 if one.is_inference() else one._version) for one in tensors))

    def still(self, model: nn.Module) -> bool:
        """Whether the weights are the same tensors, and none was written into since.

        PyTorch does not count what is written into `parameter.data`, nor into tensors made in inference mode.
        """
        now = Seen.of(model)
        same = len(now.tensors) == len(self.tensors) and all(map(operator.is_, now.tensors, self.tensors))
        return same and now.states == self.states


def _bytes(value: Tensor) -> bytes:
    """The values in row-major order, as bytes."""
    flat = value.detach().to(device="cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()
