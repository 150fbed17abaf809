"""Data sets that others publish as challenges, in the folders into which their archives unpack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradiometer.data.folder import FolderRows, open_folder
from gradiometer.errors import InputError


@dataclass(frozen=True)
class Collection:
    """One published data set of images in folders.

    Attributes:
        folders: Where its images are below the root; the first that exists is read.
        fetched_by: The class of `pytorch_ood.dataset.img` that can fetch it, or empty when there is none.
        stored: Format of the files, and what was done to them: that alone can tell them from other images.
        terms: Who made it, and what is said about its use.
        labelled: Whether its sub-folders are classes.
    """

    folders: tuple[str, ...]
    fetched_by: str
    stored: str
    terms: str
    labelled: bool = False


_ODIN = "Liang, Li and Srikant, 'Enhancing the Reliability of Out-of-distribution Image Detection', ICLR 2018; "
_SHRUNK = "PNG; shrunk from images that were JPEG, with traces that a detector can read (Tack et al., NeurIPS 2020)"
_IMAGENET = _ODIN + "ImageNet: non-commercial research and education"

COLLECTIONS: dict[str, Collection] = {
    "TinyImageNetCrop": Collection(
        ("Imagenet/test", "Imagenet"), "TinyImageNetCrop", "PNG; crops of images that were JPEG", _IMAGENET
    ),
    "TinyImageNetResize": Collection(
        ("Imagenet_resize/Imagenet_resize", "Imagenet_resize"),
        "TinyImageNetResize",
        _SHRUNK,
        _IMAGENET,
    ),
    "LSUNCrop": Collection(
        ("LSUN/test", "LSUN"), "LSUNCrop", "PNG; crops of images that were JPEG", _ODIN + "LSUN: none stated"
    ),
    "LSUNResize": Collection(
        ("LSUN_resize/LSUN_resize", "LSUN_resize"),
        "LSUNResize",
        _SHRUNK,
        _ODIN + "LSUN: none stated",
    ),
    "iSUN": Collection(("iSUN/iSUN_patches", "iSUN"), "", "JPEG; resized", _ODIN + "SUN: none stated"),
    "Textures": Collection(
        ("dtd/images", "dtd/dtd/images", "Textures"),
        "Textures",
        "JPEG of 300 to 640 pixels",
        "Cimpoi et al., 'Describing Textures in the Wild', CVPR 2014; research",
        labelled=True,
    ),
    "Places365": Collection(
        ("places365", "Places365", "Places/images"),
        "Places365",
        "JPEG",
        "Zhou et al., 'Places', PAMI 2017; non-commercial research and education",
    ),
}
"""Name -> data set. One more data set is one more entry. SVHN is among the names of torchvision."""


def open_collection(name: str, split: str | None, root: Path | None, download: bool) -> FolderRows:
    """The images of a published data set.

    Args:
        name: A key of `COLLECTIONS`.
        split: Must be None; they are not divided.
        root: The folder that holds it, unpacked.
        download: Whether pytorch-ood may fetch it when it is not there.

    Raises:
        InputError: If a split is asked for, the root is not said, or the data set is not in it and cannot be fetched.
    """
    entry = COLLECTIONS[name]
    if split is not None:
        raise InputError(f"{name} has no split {split!r}; leave split out")
    if root is None:
        raise InputError(f"{name} is read from a folder; say which one with root=")
    folder = _found(entry, root)
    if folder is None and download:
        _fetch(name, entry, root)
        folder = _found(entry, root)
    if folder is None:
        way = ", or allow it to be fetched with download=True" if entry.fetched_by else "; nobody fetches this one"
        raise InputError(
            f"{name} is not in {root}; unpack it there, so that its images are in {' or '.join(entry.folders)}{way}"
        )
    rows = open_folder(folder, None)
    return rows if entry.labelled else FolderRows(folder, ())


def _found(entry: Collection, root: Path) -> Path | None:
    return next((root / folder for folder in entry.folders if (root / folder).is_dir()), None)


def _fetch(name: str, entry: Collection, root: Path) -> None:
    if not entry.fetched_by:
        return
    import pytorch_ood.dataset.img as published

    try:
        getattr(published, entry.fetched_by)(root=str(root), download=True)
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{name} could not be fetched into {root} ({error}); fetch it by hand and unpack it there"
        ) from error
