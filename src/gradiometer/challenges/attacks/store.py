"""Finished batches of an attack on disk, found again by what they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gradiometer.errors import ArtefactError
from gradiometer.files import replaced
from gradiometer.models.hashing import weights_hash

SCHEMA = 1
"""Raised whenever an attack of ours gives other images than before for the same settings."""

_KEY = "gradiometer"


@dataclass(frozen=True)
class Store:
    """A folder of batches, one safetensors file each. What is broken, foreign or cut short is made again.

    Attributes:
        folder: Where the files are; made when the first is written.
        model: Hash of the model: structure and weights.
        attack: Name and settings of the attack.
    """

    folder: Path
    model: str
    attack: str

    @classmethod
    def of(cls, folder: str | PathLike[str], model: nn.Module, attack: str) -> Store:
        """The batches of one attack on one model.

        Args:
            folder: Where the files are. Several attacks and models may share it.
            model: What is attacked. Its printed structure counts as well as its weights.
            attack: Name and settings of the attack.
        """
        digest = hashlib.sha256(f"{model!r} {weights_hash(model)}".encode())
        return cls(Path(folder), digest.hexdigest(), attack)

    def find(self, pixels: Tensor, labels: Tensor, seed: int) -> Tensor | None:
        """The attacked version of a batch, or None when it has to be made.

        Args:
            pixels: uint8 (B, K, H, W), the originals.
            labels: int64 (B,), the classes to lead away from.
            seed: Seed of the batch.
        """
        path = self.path(pixels, labels, seed)
        with contextlib.suppress(OSError, SafetensorError, ValueError, KeyError, TypeError):
            with safe_open(path, framework="pt") as file:
                header = json.loads(file.metadata()[_KEY])
                found: Tensor = file.get_tensor("images")
            whole = header["digest"] == _digest(found) and found.shape == pixels.shape and found.dtype == torch.uint8
            return found.to(pixels.device) if whole else None
        return None

    def keep(self, attacked: Tensor, pixels: Tensor, labels: Tensor, seed: int) -> None:
        """Write the attacked version of a batch, in one step.

        Args:
            attacked: uint8 (B, K, H, W).
            pixels: As for `find`.
            labels: As for `find`.
            seed: As for `find`.

        Raises:
            ArtefactError: If it cannot be written.
        """
        path = self.path(pixels, labels, seed)
        header = {
            "schema": SCHEMA,
            "attack": self.attack,
            "model": self.model,
            "seed": seed,
            "digest": _digest(attacked),
        }
        data = save({"images": attacked.cpu().contiguous()}, {_KEY: json.dumps(header)})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replaced(path) as new:
                new.write_bytes(data)
        except OSError as error:
            raise ArtefactError(
                f"could not write {len(data):,} bytes to {path}: {error.strerror or error}; make room, or choose "
                "another folder for the cache"
            ) from error

    def path(self, pixels: Tensor, labels: Tensor, seed: int) -> Path:
        """The file of a batch, named by a hash of everything that its content depends on."""
        parts = (str(SCHEMA), self.model, self.attack, str(seed), str(labels.tolist()), _digest(pixels))
        return self.folder / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.safetensors"


def _digest(pixels: Tensor) -> str:
    return hashlib.sha256(f"{tuple(pixels.shape)};".encode() + pixels.cpu().contiguous().numpy().tobytes()).hexdigest()
