"""Curves of a training for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gradiometer.errors import DependencyError

CURVES = {
    "loss/reconstruction": "reconstruction",
    "loss/latent": "latent",
    "loss/total": "loss",
    "gradient/mean cosine": "cosine",
    "gradient/loss": "cosine",
}
"""The figure behind each curve; the gradient loss is minus the mean cosine."""

_VALIDATION = "validation_"


class Curves:
    """Writes the losses and the mean cosine of each epoch, for training and validation images.

    A training that continues in the same folder continues its curves. Use it as the `progress` of a training.

    Args:
        folder: Where TensorBoard looks; made when it is not there.

    Raises:
        DependencyError: TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise DependencyError(
                "tensorboard is not installed; pip install 'gradiometer[tensorboard]' brings it"
            ) from error
        self._writer: Any = SummaryWriter(str(folder))

    def __call__(self, figures: Mapping[str, float]) -> None:
        """Write the figures of an epoch, as a training reports them."""
        for curve, name in CURVES.items():
            sign = -1 if curve == "gradient/loss" else 1
            for role, prefix in (("train", ""), ("validation", _VALIDATION)):
                value = sign * figures[f"{prefix}{name}"]
                self._writer.add_scalar(f"{curve}/{role}", value, int(figures["epoch"]))
        self._writer.flush()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._writer.close()
