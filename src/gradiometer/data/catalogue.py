"""Data sets with a name: scikit-learn's bundled digits, and those of torchvision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gradiometer.data.rows import Annotations, ArrayRows, Row, numbered
from gradiometer.errors import InputError

_TRAIN: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}

TORCHVISION: dict[str, dict[str, dict[str, Any]]] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "USPS"), _TRAIN),
    **{
        name: {split: {"split": split} for split in splits}
        for name, splits in {
            "SVHN": ("train", "test", "extra"),
            "STL10": ("train", "test", "unlabeled"),
            "GTSRB": ("train", "test"),
            "Food101": ("train", "test"),
            "DTD": ("train", "val", "test"),
            "Flowers102": ("train", "val", "test"),
            "FGVCAircraft": ("train", "val", "trainval", "test"),
            "OxfordIIITPet": ("trainval", "test"),
            "Country211": ("train", "valid", "test"),
        }.items()
    },
    "EuroSAT": {"all": {}},
}
"""torchvision's class, and for each split the arguments that choose it. One more data set is one more entry."""


@dataclass(frozen=True)
class TorchvisionRows:
    """The rows of one torchvision data set.

    Attributes:
        name: Name and split, what the row names start with.
        data: The data set; an item is an image and a label.
    """

    name: str
    data: Any

    def count(self) -> int:
        """The number of images."""
        return len(self.data)

    def read(self, start: int = 0) -> Iterator[Row]:
        """The images from number `start` on, each opened when it is decoded."""
        return (Row(f"{self.name}#{row}", partial(self._image, row)) for row in range(start, self.count()))

    def annotations(self) -> Annotations:
        """Labels and class names; no labels for a split that has none."""
        labels = np.asarray(self._labels()).astype(np.int64)
        if (labels < 0).any():
            return Annotations()
        classes = getattr(self.data, "classes", None) or numbered(int(labels.max()), self.name)
        return Annotations(labels, tuple(str(name) for name in classes))

    def _labels(self) -> Any:
        """A label for each row, from the list that torchvision keeps under one of several names."""
        for name in ("targets", "labels", "_labels"):
            if getattr(self.data, name, None) is not None:
                return getattr(self.data, name)
        if hasattr(self.data, "_samples"):
            return [label for _, label in self.data._samples]
        return [self.data[row][1] for row in range(self.count())]  # decodes every image

    def _image(self, row: int) -> Image.Image:
        image: Image.Image = self.data[row][0]
        return image


def open_digits(split: str | None) -> ArrayRows:
    """The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn, scaled from 0...16 to 0...255.

    Args:
        split: Must be None; the digits are not divided.

    Raises:
        InputError: If a split is asked for.
    """
    if split is not None:
        raise InputError(
            f"the digits have no split {split!r}; leave split out and divide them with gradiometer.data.split"
        )
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return ArrayRows("digits", pixels, Annotations(bunch.target.astype(np.int64), tuple(str(d) for d in range(10))))


def open_torchvision(name: str, split: str | None, root: Path | None, download: bool) -> TorchvisionRows:
    """A data set of torchvision.

    Args:
        name: A key of `TORCHVISION`.
        split: One of its splits.
        root: The folder that holds it, as torchvision lays it out.
        download: Whether torchvision may fetch it when it is not there.

    Raises:
        InputError: If the root or the split must be chosen, or the data set is not in the root.
    """
    splits = TORCHVISION[name]
    if root is None:
        raise InputError(f"{name} is read from a folder; say which one with root=")
    if split is None and len(splits) == 1:
        split = next(iter(splits))
    if split not in splits:
        asked = "needs a split" if split is None else f"has no split {split!r}"
        given = f"such as split={next(iter(splits))!r}"
        raise InputError(f"{name} {asked}; choose one of {', '.join(splits)}, {given}")
    import torchvision

    try:
        data = getattr(torchvision.datasets, name)(root=root, download=download, **splits[split])
    except RuntimeError as error:
        raise InputError(
            f"{name} ({split}) is not complete in {root} ({error}); put it there, or allow it with download=True"
        ) from error
    return TorchvisionRows(f"{name}/{split}", data)
