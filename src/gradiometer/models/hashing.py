"""A fingerprint of the weights of a model."""

from __future__ import annotations

import hashlib

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


def _bytes(value: Tensor) -> bytes:
    """The values in row-major order, as bytes."""
    flat = value.detach().to(device="cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()
