"""Models of small images, their training, and `load` for the models of other libraries and of the user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradiometer.models.export import train_to_file
    from gradiometer.models.factory import architectures, build
    from gradiometer.models.hashing import weights_hash
    from gradiometer.models.loading import header, load
    from gradiometer.models.shipped import names, record
    from gradiometer.models.training import Labelled, Recipe

__all__ = [
    "Labelled",
    "Recipe",
    "architectures",
    "build",
    "header",
    "load",
    "names",
    "record",
    "train_to_file",
    "weights_hash",
]

_MODULES = {
    "Labelled": "training",
    "Recipe": "training",
    "architectures": "factory",
    "build": "factory",
    "header": "loading",
    "load": "loading",
    "names": "shipped",
    "record": "shipped",
    "train_to_file": "export",
    "weights_hash": "hashing",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that this package costs nothing until then."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
