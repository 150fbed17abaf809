"""Classifiers of torchvision, timm and transformers, wrapped to take images in [0, 1] and return logits."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gradiometer.errors import ArtefactError, DependencyError, ModelError
from gradiometer.models.normalize import Normalize, Normalized
from gradiometer.models.stored import load_weights, read_weights
from gradiometer.models.suggestions import suggest

PUBLISHED = "DEFAULT"
"""The value of `weights` that stands for the published weights of an architecture."""

Channels = Sequence[float] | None


class HuggingFaceClassifier(nn.Module):
    """An image classifier of transformers whose output is its logits.

    Args:
        network: Takes `pixel_values`, returns an object with `logits`.
        mean: Mean of each channel, for images in [0, 1]; no normalisation when absent.
        std: Standard deviation of each channel.
    """

    def __init__(self, network: nn.Module, mean: Channels, std: Channels) -> None:
        super().__init__()
        self.normalize = nn.Identity() if mean is None else Normalize(len(mean), mean, std)
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, K, H, W) in [0, 1]."""
        logits: Tensor = self.network(pixel_values=self.normalize(x)).logits
        return logits


def torchvision_model(
    name: str, *, weights: str | None, classes: int | None, mean: Channels, std: Channels, options: dict[str, Any]
) -> nn.Module:
    """A classifier of torchvision; see `gradiometer.models.load`."""
    import torchvision

    name, file = _file_of(name, weights)
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ModelError(f"torchvision has no classifier {name!r}; {suggest(name, known)}")
    choices = torchvision.models.get_model_weights(name)
    chosen = None
    if weights is not None and file is None:
        if weights not in (members := [*choices.__members__, PUBLISHED]):
            raise ModelError(f"torchvision has no weights {weights!r} for {name}; {suggest(weights, members)}")
        chosen = choices[weights]
    if classes is not None:
        options = {"num_classes": classes, **options}
    model = _construct(
        f"torchvision:{name}",
        lambda: torchvision.models.get_model(name, weights=chosen, **options),
        fetching=chosen is not None,
    )
    preprocessing = (chosen or choices[PUBLISHED]).transforms()
    return _normalized(model, file, mean or preprocessing.mean, std or preprocessing.std)


def timm_model(
    name: str, *, weights: str | None, classes: int | None, mean: Channels, std: Channels, options: dict[str, Any]
) -> nn.Module:
    """A classifier of timm; see `gradiometer.models.load`."""
    timm = _import("timm", extra="timm")
    name, file = _file_of(name, weights)
    if not timm.is_model(name):
        raise ModelError(f"timm has no model {name!r}; {suggest(name, timm.list_models())}")
    published = weights is not None and file is None
    if published and weights != PUBLISHED:
        name = f"{name.partition('.')[0]}.{weights}"
    if classes is not None:
        options = {"num_classes": classes, **options}
    model = _construct(
        f"timm:{name}", lambda: timm.create_model(name, pretrained=published, **options), fetching=published
    )
    usual: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    means, deviations = list(mean or usual.get("mean", ())), list(std or usual.get("std", ()))
    channels = options.get("in_chans", len(usual.get("mean", means)))
    if not len(means) == len(deviations) == channels:
        raise ModelError(
            f"timm:{name} takes {channels} channels but is normalised by {len(means)} means and {len(deviations)} "
            "deviations; give mean= and std= with one number for each channel"
        )
    return _normalized(model, file, means, deviations)


def huggingface_model(
    name: str, *, weights: str | None, classes: int | None, mean: Channels, std: Channels, options: dict[str, Any]
) -> nn.Module:
    """An image classifier of transformers; see `gradiometer.models.load`."""
    transformers = _import("transformers", extra="hf")
    name, file = _file_of(name, weights)
    path = Path(name)
    if classes is not None:
        options = {"num_labels": classes, **options}
    kinds = list(transformers.models.auto.modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)
    automatic = transformers.AutoModelForImageClassification
    if weights not in (None, PUBLISHED) and file is None:
        raise ModelError(f"weights={weights!r} means nothing to hf:{name}; give {PUBLISHED!r}, a file or revision=")
    if path.is_dir() or ("/" in name and path.suffix != ".json"):
        online = weights == PUBLISHED and not path.is_dir()
        model = _pretrained(automatic, name, online, options)
        usual = _processor(transformers, name, online)
    elif path.suffix == ".json" or name in kinds:
        if path.suffix == ".json" and not path.is_file():
            raise ArtefactError(f"there is no configuration {path}")
        if weights is not None and file is None:
            raise ModelError(f"hf:{name} is a configuration, which has no published weights; name a model of the hub")

        def untrained() -> nn.Module:
            config = (
                transformers.AutoConfig.from_pretrained(name, **options)
                if path.suffix == ".json"
                else transformers.AutoConfig.for_model(name, **options)
            )
            built: nn.Module = automatic.from_config(config)
            return built

        model = _construct(f"hf:{name}", untrained)
        usual = {}
    else:
        raise ModelError(
            f"hf:{name} is neither a folder, nor a configuration in JSON, nor a model owner/name of the hub, nor a "
            f"kind of image classifier of transformers; {suggest(name, kinds)}"
        )
    if usual.get("do_normalize", True):
        mean, std = mean or usual.get("image_mean"), std or usual.get("image_std")
    if (mean is None) != (std is None):
        raise ModelError(f"hf:{name} needs mean= and std= together, got mean={mean} and std={std}")
    if file is not None:
        load_weights(model, read_weights(file), str(file))
    return HuggingFaceClassifier(model, mean, std)


def _pretrained(automatic: Any, name: str, online: bool, options: dict[str, Any]) -> nn.Module:
    """A trained model from a folder, the local cache or, when asked, the hub; refuses a head that was never trained."""
    try:
        model, report = automatic.from_pretrained(
            name, local_files_only=not online, use_safetensors=True, output_loading_info=True, **options
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        remedy = (
            "a folder needs config.json and model.safetensors; for an untrained network name its config.json"
            if Path(name).is_dir()
            else f"it is no folder and not in the local cache; weights={PUBLISHED!r} asks for the download"
            if not online
            else "check the name and the connection"
        )
        raise ArtefactError(f"hf:{name} cannot be loaded ({error}); {remedy}") from error
    missing = sorted(map(str, report["missing_keys"]))
    if missing:
        raise ArtefactError(
            f"hf:{name} has no weights for {', '.join(missing[:3])}: it was not trained to classify images; "
            "name a fine-tuned model"
        )
    trained: nn.Module = model
    return trained


def _processor(transformers: Any, name: str, online: bool) -> dict[str, Any]:
    """The preprocessing beside a trained model; empty when it has none."""
    try:
        found, _ = transformers.ImageProcessingMixin.get_image_processor_dict(name, local_files_only=not online)
    except OSError:
        return {}
    return dict(found)


def _file_of(name: str, weights: str | None) -> tuple[str, Path | None]:
    """Split NAME@FILE; `weights` may name a file as well."""
    name, _, file = name.partition("@")
    if file and weights is not None:
        raise ModelError(f"two sets of weights for {name}: {file!r} and {weights!r}; give one of them")
    if file:
        return name, Path(file)
    if weights is not None and Path(weights).suffix in (".safetensors", ".pt", ".pth"):
        return name, Path(weights)
    return name, None


def _construct(spec: str, constructor: Callable[[], nn.Module], *, fetching: bool = False) -> nn.Module:
    """Run a constructor of another library and say what it was doing when it fails, with whatever kind of error."""
    try:
        return constructor()
    except (TypeError, ValueError) as error:
        raise ModelError(f"{spec} cannot be built with these options ({type(error).__name__}: {error})") from error
    except Exception as error:
        if fetching:
            raise ArtefactError(
                f"the weights of {spec} cannot be fetched ({type(error).__name__}: {error}); check the connection, or "
                f"give a file: {spec}@weights.safetensors"
            ) from error
        raise ModelError(f"{spec} cannot be built with these options ({type(error).__name__}: {error})") from error


def _normalized(model: nn.Module, file: Path | None, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    if file is not None:
        load_weights(model, read_weights(file), str(file))
    return Normalized(model, mean, std)


def _import(module: str, *, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DependencyError(f"{module} is not installed; pip install 'gradiometer[{extra}]' brings it") from error
