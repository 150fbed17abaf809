"""`gradiometer fit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gradiometer.cli import artefacts, sources
from gradiometer.cli.artefacts import DEVICE, MODEL, Origin
from gradiometer.cli.command import Command, option
from gradiometer.cli.sources import FORMS, LIMIT, Reading
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import InputError, ModelError

if TYPE_CHECKING:
    from torch import nn

    from gradiometer.data import Images
    from gradiometer.detectors import Detector

_BOTH = "guard or purview"
_GUARD = "guard"
_PURVIEW = "purview"
_GRADCON = "gradcon"

_ALSO = {_GRADCON: {"neighbours", "memory", "parameters"}, "knn": {"neighbours"}}
"""Settings of other groups that a detector understands too."""

_LAYERS = 10
"""Of how many layers a decision network sees the channels, unless told otherwise: as many as Guard looks at."""


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Settings of the command."""

    model: str = option(f"{MODEL}; for gradcon a file that train gradcon wrote, or an auto-encoder of yours")
    known: str = option(f"images that the model was trained for, such as its training images: {FORMS}")
    out: str = option("file of the fitted detector, ending in .safetensors")
    detector: (
        Literal[
            "guard",
            "purview",
            "gradcon",
            "msp",
            "energy",
            "mahalanobis",
            "odin",
            "knn",
            "vim",
            "react",
            "squeezing",
            "gradnorm",
            "exgrad",
            "gradtrust",
            "gaia-z",
            "gaia-a",
            "gradpca",
        ]
        | None
    ) = option(
        "guard asks several members, purview reads norms, gradcon the gradients of an auto-encoder, the others are "
        "baselines on logits and features, squeezing on those of smoothed images too, gaia-z, gaia-a and gradpca on "
        "gradients; guard when absent, or purview if there are challenges",
        None,
    )
    challenges: tuple[str, ...] = option(
        "images that the model was not trained for; purview then trains a decision network on both", ()
    )
    limit: int | None = option(LIMIT, None)
    model_options: Mapping[str, Any] | None = option("more about the model, such as '{weights: DEFAULT}'", None)
    device: str = option(DEVICE, "auto")
    batch_size: int | None = option(
        "images that go through the model at once, kept in the file; 128 when absent, or what suits the size of the "
        "images for gradcon",
        None,
    )
    objective: Literal["ConfoundingLabel", "PseudoLabel", "UniformTarget", "ContrastClasses"] | None = option(
        "what is backpropagated; the confounding label on the softmax when absent", None, group=_PURVIEW
    )
    parameters: tuple[str, ...] = option("names of the parameters to read, * and ? allowed", ("*",), group=_PURVIEW)
    activations: bool = option("read activation norms as well", True, group=_PURVIEW)
    layers: int | None = option(
        "of how many layers each channel is read by itself too; 10 when absent if there are challenges, or else none",
        None,
        group=_PURVIEW,
    )
    gradients: bool = option("let guard read gradient norms beside activation norms", False, group=_GUARD)
    step: float = option(
        "by how much every pixel moves, such as 0.008, for one more member of guard and twice the time; 0 does without",
        0.0,
        group=_GUARD,
    )
    smoothing: bool = option(
        "ask again about every image after a median filter, for one more member of guard and twice the time",
        True,
        group=_GUARD,
    )
    members: Literal["five", "seven"] = option("how many members guard asks", "seven", group=_GUARD)
    neighbours: int | None = option(
        "k of the density of known images, for knn too; 10 when absent, or for knn 50", None, group=_BOTH
    )
    seed: int = option("of the division of known images, or of the decision network", 0, group=_BOTH)
    memory: str | None = option("working memory of the gradients, such as 512MiB", None, group=_BOTH)
    score: Literal[
        "combined", "fused", "reconstruction", "latent", "gradient", "density", "subspace", "whitened", "aligned"
    ] = option("what an image is scored by", "combined", group=_GRADCON)
    beta: float = option("weight of the mean cosine in the combined score", 0.12, group=_GRADCON)


def run(options: Options, terminal: Terminal) -> None:
    """Fit and save."""
    artefacts.check_folder(Path(options.out))
    kind = options.detector or (_PURVIEW if options.challenges else _GUARD)
    _check_groups(options, kind)
    if kind == _GRADCON:
        _fit_gradcon(options, terminal)
        return
    model = artefacts.load_model(options.model, options.model_options or {}, options.device)
    detector = _make(kind, options, model)
    if options.challenges and not detector.learns_from_challenges:
        raise InputError(f"--detector {kind} learns nothing from challenges; leave --challenges out, or take purview")
    known = sources.load(options.known, options, limit=options.limit)
    _check_shape(known, options)
    shape = known.images.shape[1:]
    parts = [sources.load(name, options, limit=options.limit, shape=shape) for name in options.challenges]
    challenges = sources.join(parts) if parts else None
    beside = f" and {len(challenges):,} challenges" if challenges is not None else ""
    terminal.note(f"fitting {kind} to {len(known):,} known images{beside}")
    with terminal.progress() as progress:
        detector.fit(
            _watched(known, progress, "known images", detector.batch_size),
            challenges=_watched(challenges, progress, "challenges", detector.batch_size) if challenges else None,
        )
    origin = Origin(
        options.model,
        options.model_options or {},
        options.size,
        options.channels,
        options.known,
        options.challenges,
    )
    artefacts.save(detector, options.out, origin)
    terminal.show(f"{options.out}: {kind}, fitted to {len(known):,} known images{beside}")
    terminal.note(f"next: gradiometer calibrate --detector {options.out} --held-out OTHER_KNOWN_IMAGES")


def _fit_gradcon(options: Options, terminal: Terminal) -> None:
    """Fit GradCon to other normal images than those of its training, or to an auto-encoder trained elsewhere."""
    from gradiometer import anomaly
    from gradiometer.models import user_file

    if options.challenges:
        raise InputError(f"--detector {_GRADCON} learns nothing from challenges; leave --challenges out")
    settings: dict[str, Any] = {"score": options.score, "beta": options.beta, "memory": options.memory}
    settings |= _given(options)
    own = not user_file.is_user_file(options.model) and (
        Path(options.model).suffix == ".safetensors" or Path(options.model).is_dir()
    )
    origin = Origin("", {}, options.size, options.channels, options.known)
    if own:
        for what, asked in (("parameters", options.parameters != ("*",)), ("model-options", options.model_options)):
            if asked:
                raise InputError(
                    f"--{what} is for an auto-encoder of yours, and {options.model} says of itself what it is; leave "
                    "it out"
                )
        path = Path(options.model) / anomaly.ARTEFACT if Path(options.model).is_dir() else Path(options.model)
        trained, noted = artefacts.load(str(path), None, options.device)
        if not isinstance(trained, anomaly.GradCon):
            raise InputError(f"{path} holds a {type(trained).__name__}; give a file that train gradcon wrote")
        detector = trained.again(**settings)
        origin = replace(origin, size=options.size or noted.size, channels=options.channels or noted.channels)
    known = sources.load(
        options.known, replace(options, size=origin.size, channels=origin.channels), limit=options.limit
    )
    if not own:
        model = artefacts.load_model(options.model, options.model_options or {}, options.device)
        layers = "decoder.*.weight" if options.parameters == ("*",) else options.parameters
        at_once = {} if options.batch_size is None else {"batch_size": options.batch_size}
        reference = anomaly.mean_gradient(model, known, layers, **at_once)
        detector = anomaly.GradCon(model, reference, layers=layers, **settings)
        origin = replace(origin, model=options.model, model_options=options.model_options or {})
    terminal.note(f"fitting {options.detector} to {len(known):,} known images")
    with terminal.progress() as progress:
        detector.fit(_watched(known, progress, "known images", detector.batch_size))
    artefacts.save(detector, options.out, origin)
    terminal.show(f"{options.out}: {options.detector}, fitted to {len(known):,} known images")
    terminal.note(f"next: gradiometer calibrate --detector {options.out} --held-out OTHER_KNOWN_IMAGES")


def _check_groups(options: Options, kind: str) -> None:
    """Refuse what only another detector understands, rather than leave it out without a word."""
    for entry in fields(options):
        group = entry.metadata.get("group")
        if group not in (_BOTH, _GUARD, _PURVIEW, _GRADCON):
            continue
        if kind not in group.split(" or ") and entry.name not in _ALSO.get(kind, ()):
            default, value = entry.default, getattr(options, entry.name)
            if tuple(value) != default if isinstance(default, tuple) else value != default:
                raise InputError(
                    f"--{entry.name} is for --detector {group} and this is {kind}; leave it out or add that"
                )


def _make(kind: str, options: Options, model: nn.Module) -> Detector:
    from gradiometer import detectors, gradients

    if kind == _GUARD:
        return detectors.Guard(
            model,
            options.gradients,
            **_given(options),
            seed=options.seed,
            step=options.step,
            smoothing=options.smoothing,
            members=options.members,
            memory=options.memory,
        )
    if kind == _PURVIEW:
        parameters: Any = options.parameters[0] if len(options.parameters) == 1 else options.parameters
        return detectors.Purview(
            model,
            None if options.objective is None else getattr(gradients, options.objective)(),
            parameters,
            options.activations,
            **_given(options),
            seed=options.seed,
            layers=(_LAYERS if options.challenges else 0) if options.layers is None else options.layers,
            memory=options.memory,
        )
    kinds: dict[str, Callable[..., Detector]] = {
        "msp": detectors.MSP,
        "energy": detectors.Energy,
        "mahalanobis": detectors.NormalizedMahalanobis,
        "odin": detectors.ODIN,
        "knn": detectors.KNN,
        "vim": detectors.ViM,
        "react": detectors.ReAct,
        "squeezing": detectors.FeatureSqueezing,
        "gradnorm": detectors.GradNorm,
        "exgrad": detectors.ExGrad,
        "gradtrust": detectors.GradTrust,
        "gaia-z": detectors.GAIA,
        "gaia-a": partial(detectors.GAIA, form="channel-average"),
        "gradpca": detectors.GradPCA,
    }
    return kinds[kind](model, **_given(options))


def _given(options: Options) -> dict[str, Any]:
    """What has a default of its own in each detector, where it was asked for."""
    asked = {"batch_size": options.batch_size, "neighbours": options.neighbours}
    return {name: value for name, value in asked.items() if value is not None}


def _check_shape(known: Images, options: Options) -> None:
    """Networks that end in a mean over positions take images of any size, and are wrong about most of them."""
    from gradiometer import models

    if options.size is not None or options.channels is not None:
        return
    try:
        header = models.header(options.model)
    except ModelError:
        return
    expected, found = (header.channels, header.size, header.size), tuple(known.images.shape[1:])
    if expected != found:
        raise InputError(
            f"the images of {options.known} are {' x '.join(map(str, found))} and the model was trained on "
            f"{' x '.join(map(str, expected))} (channels x height x width); add --size {header.size} --channels "
            f"{header.channels} to convert them, or give the size that you want"
        )


def _watched(images: Images, progress: Any, what: str, batch_size: int) -> Any:
    """The images batch by batch, with progress."""
    import torch

    from gradiometer.detectors.inputs import Batch

    for start in range(0, len(images), batch_size):
        part = images.select(torch.arange(start, min(start + batch_size, len(images))))
        labels = None if part.labels is None else part.labels.numpy()
        yield Batch(next(part.batches(len(part))), labels, part.groups.numpy())
        progress(what, start + len(part), len(images))


COMMAND = Command(
    name="fit",
    summary="fit a detector to known images",
    purpose="""
        Read what known images ask of a trained network, and save it in one file. With --known alone the detector learns
        what known images look like to the network. With --challenges it also learns what to look out for, a decision
        network between known images and challenges. The file holds no part of the model, only its name and a hash of
        its weights.
    """,
    examples="""
        # the shipped model, five thousand of its training images
        gradiometer fit --model resnet20-cifar10 --known cifar10.npz:train --limit 5000 --out guard.safetensors

        # a network of your own, and things that it should be wary of
        gradiometer fit --model net.py:make@net.safetensors --known photos/ --size 224 \\
            --challenges blurred/ textures.npz --out guard.safetensors

        # an auto-encoder of normal images, fitted again to the images of another camera
        gradiometer fit --detector gradcon --model runs/parts --known camera2/ --out camera2.safetensors

        # only the last stage of the network, in half a gigabyte
        gradiometer fit --model runs/mine --known photos.npz:train --detector purview \\
            --parameters 'layer3.*' 'fc.*' --memory 512MiB --out guard.safetensors
    """,
    options=Options,
    run=run,
)
