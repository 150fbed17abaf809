"""How few parameters are enough: quality against cost for subsets of the parameters, from known images alone."""

from __future__ import annotations

import fnmatch
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from gradiometer import given
from gradiometer.challenges import Corruption
from gradiometer.detectors.checks import check_model, place_of
from gradiometer.detectors.density import NeighbourDensity
from gradiometer.detectors.fingerprints import check_unseen
from gradiometer.detectors.inputs import Again, batches, move
from gradiometer.detectors.layers import layer_of
from gradiometer.detectors.purview import Purview
from gradiometer.detectors.samples import Samples
from gradiometer.errors import InputError
from gradiometer.gradients import Gradiometer, Loss, Objective
from gradiometer.gradients.arguments import chosen_parameters
from gradiometer.gradients.selection import Output

Mask = npt.NDArray[np.bool_]

Cost = Callable[[Sequence[str]], float]
"""Maps globs of parameters to the cost of a reading, in forward passes; no globs mean a reading of activations."""

PSEUDO_CHALLENGES = tuple(
    Corruption(name, 3) for name in ("gaussian_noise", "gaussian_blur", "contrast", "pixelate", "jpeg_compression")
)
"""What is done to held-out images when no challenges are given."""

_SUBSETS = 8
_REPEATS = 5


@dataclass(frozen=True)
class Setting:
    """One subset of the parameters.

    Attributes:
        parameters: Globs that name it, for `Purview(parameters=...)`; none for the control, which reads activations
            alone.
        tensors: Number of parameter tensors.
        cost: Time of a reading, in forward passes.
        auroc: Mean of `aurocs`.
        aurocs: AUROC in [0, 1] of held-out images against each pseudo-challenge.
    """

    parameters: tuple[str, ...]
    tensors: int
    cost: float
    auroc: float
    aurocs: Mapping[str, float]


@dataclass(frozen=True)
class Dial:
    """Quality against cost.

    Attributes:
        settings: All subsets, the one with the fewest parameters first and the full set last.
        control: The same detector without gradients.
        loss: How much the mean AUROC may fall behind that of the full set.
        chosen: The cheapest subset that does not fall behind further.
    """

    settings: tuple[Setting, ...]
    control: Setting
    loss: float
    chosen: Setting

    @property
    def full(self) -> Setting:
        """The subset of all parameters."""
        return self.settings[-1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """A table, with a star beside the chosen subset."""
        rows = [("parameters", "tensors", "x forward", "AUROC")]
        for setting in (self.control, *self.settings):
            name = ", ".join(setting.parameters) or "none: activations alone"
            star = "* " if setting is self.chosen else "  "
            rows.append((star + name, str(setting.tensors), f"{setting.cost:.2f}", f"{100 * setting.auroc:.1f}"))
        width = max(len(row[0]) for row in rows)
        return "\n".join(f"{name:<{width}}  {count:>7}  {cost:>9}  {auroc:>5}" for name, count, cost, auroc in rows)


def dial(
    model: nn.Module,
    known: Any,
    held_out: Any,
    *,
    challenges: Mapping[str, Any] | None = None,
    loss: float = 0.01,
    subsets: Sequence[Sequence[str]] | None = None,
    objective: Objective | Loss | None = None,
    cost: Cost | None = None,
    neighbours: int = 10,
    output: Output = None,
    memory: str | int | None = None,
    batch_size: int = 128,
) -> Dial:
    """Choose the cheapest subset of the parameters whose known-only detection is about as good as that of all.

    Everything is read once with all parameters; a subset is some of the columns. By default the subsets are the last
    modules of the network, more and more of them, since a backward pass has to reach the first parameter that is read.
    The pseudo-challenges are made of the held-out images, so that no image of an unknown kind is needed. They stand for
    others only as far as they resemble them: a subset that is enough for noise may not be for another class of objects.

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C).
        known: Images that the model was trained for, in any form that `Detector.fit` takes.
        held_out: Others of the same kind. They are corrupted unless there are challenges.
        challenges: What stands for the unknown, by name, each in any form that `Detector.predict` takes; held-out
            images with noise, blur, weak contrast, coarse pixels and JPEG blocks when absent.
        loss: How much the mean AUROC may fall behind that of all parameters, as a share in [0, 1].
        subsets: Globs of the subsets to compare, without the full set.
        objective: What is backpropagated; see `Purview`.
        cost: What a reading of a subset costs; the measured time in forward passes when absent.
        neighbours: k of the density.
        output: Where the logits are in what the model returns.
        memory: Working memory that the gradients may take.
        batch_size: Images that go through the model at once.

    Returns:
        The curve, and the choice.

    Raises:
        InputError: The loss is out of range, a glob matches nothing, images cannot be corrupted, or more than 1 in 100
            of the held-out images are among the known ones.
        ModelError: The model is in train mode or returns no logits.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
        >>> known, held_out = torch.randn(100, 4), torch.randn(100, 4)
        >>> found = dial(model, known, held_out, challenges={"large": 5 * torch.randn(100, 4)}, loss=0.02)
        >>> found.full.parameters, found.chosen in found.settings
        (('*',), True)
    """
    given.number("loss", loss, "the share of AUROC that may be lost, between 0 and 1, such as 0.01", least=0, most=1)
    check_model(model)
    detector = Purview(model, objective, neighbours=neighbours, output=output, memory=memory, batch_size=batch_size)
    held_out = Again(held_out, batch_size, "held-out images")
    if challenges is not None and not challenges:
        raise InputError("there are no challenges to compare subsets on; give one or more, or leave the argument out")
    reference = detector._collect(known, "known images", None)
    others = detector._collect(held_out, "held-out images", reference.inputs)
    check_unseen(others.fingerprints, reference.fingerprints, "held-out images", "the AUROC")
    parts = challenges if challenges is not None else corrupted(held_out, batch_size)
    read = {name: detector._collect(source, name, reference.inputs, known=False) for name, source in parts.items()}
    globs = [tuple(each) for each in (suffixes(model) if subsets is None else subsets)]
    cost = _measured(model, held_out, detector) if cost is None else cost

    def setting(chosen: tuple[str, ...]) -> Setting:
        names = tuple(chosen_parameters(model, chosen)) if chosen else ()
        columns = _columns(reference.names, names, tuple(chosen_parameters(model, "*")))
        aurocs = _aurocs(reference, others, read, columns, neighbours)
        return Setting(chosen, len(names), cost(chosen), statistics.fmean(aurocs.values()), aurocs)

    settings = sorted((setting(each) for each in globs if each != ("*",)), key=lambda each: each.tensors)
    settings.append(setting(("*",)))
    enough = [each for each in settings if each.auroc >= settings[-1].auroc - loss]
    return Dial(tuple(settings), setting(()), loss, min(enough, key=lambda each: each.cost))


def corrupted(images: Any, batch_size: int = 128) -> dict[str, Tensor]:
    """Images with each of the `PSEUDO_CHALLENGES`.

    Args:
        images: In any form that a detector takes.
        batch_size: Images that are worked on at once.

    Returns:
        Tensors (B, K, H, W) in [0, 1] by name.

    Raises:
        InputError: They are no images in [0, 1].
    """
    found: dict[str, list[Tensor]] = {f"{each.name} {each.level}": [] for each in PSEUDO_CHALLENGES}
    for batch in batches(images, batch_size, "held-out images"):
        if not isinstance(batch.inputs, Tensor) or batch.inputs.ndim != 4:
            raise InputError("the held-out inputs are no images, which cannot be corrupted; give challenges= instead")
        for (_, parts), each in zip(found.items(), PSEUDO_CHALLENGES, strict=True):
            parts.append(each(batch.inputs))
    return {name: torch.cat(parts) for name, parts in found.items()}


def suffixes(model: nn.Module, most: int = _SUBSETS) -> list[tuple[str, ...]]:
    """Subsets that hold the last modules with parameters, more and more of them.

    Args:
        model: The model. Modules count in the order of `named_parameters()`, which is that of use in most networks.
        most: How many subsets at most, the full set not counted.

    Returns:
        Globs for each, as few as say it.
    """
    names = list(chosen_parameters(model, "*"))
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    counts = dict.fromkeys(round(count) for count in np.linspace(1, len(modules), most + 1)[:-1])
    found = []
    for count in counts:
        last = set(modules[len(modules) - count :])
        subset = [name for name in names if name.rpartition(".")[0] in last]
        if len(subset) < len(names):
            found.append(shortest(subset, names))
    return found


def shortest(subset: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Globs that match a subset of names and nothing else.

    Args:
        subset: What is to be matched.
        names: Everything that there is.

    Example:
        >>> shortest(["b.0.weight", "b.0.bias", "b.1.weight"], ["a.weight", "b.0.weight", "b.0.bias", "b.1.weight"])
        ('b.*',)
    """
    wanted, covered, globs = set(subset), set[str](), []
    for name in subset:
        if name in covered:
            continue
        parts = name.split(".")
        for depth in range(len(parts) + 1):
            glob = name if depth == len(parts) else ".".join([*parts[:depth], "*"])
            matched = {other for other in names if fnmatch.fnmatchcase(other, glob)}
            if matched <= wanted:
                break
        globs.append(glob)
        covered |= matched
    return tuple(globs)


def _columns(found: Sequence[str], names: Sequence[str], everything: Sequence[str]) -> Mask:
    """Which columns a reading of some parameters would have; without any, those of all activations."""
    wanted = {f"gradient of {name}" for name in names}
    wanted |= {f"activation into {layer_of(name)}" for name in (names or everything)}
    return np.array([name.partition(" for contrast")[0] in wanted for name in found])


def _aurocs(
    known: Samples, held_out: Samples, challenges: Mapping[str, Samples], columns: Mask, neighbours: int
) -> dict[str, float]:
    """AUROC of the known-only density on some columns, for each challenge."""
    density = NeighbourDensity(neighbours).fit(known.statistics[:, columns])
    own = density.score(held_out.statistics[:, columns])
    found = {}
    for name, samples in challenges.items():
        scores = density.score(samples.statistics[:, columns])
        truth = np.repeat([0, 1], [len(own), len(scores)])
        found[name] = float(roc_auc_score(truth, np.concatenate([own, scores])))
    return found


def _measured(model: nn.Module, images: Any, detector: Purview) -> Cost:
    """A cost that is measured on one batch, each time beside a forward pass."""
    device, dtype = place_of(model)
    inputs = move(next(batches(images, detector.batch_size, "held-out images")).inputs, device, dtype)
    whole = Gradiometer(model, detector.objective, memory=detector.memory, output=detector.output)

    def forward() -> None:
        with torch.no_grad():
            whole._forward(inputs)

    def cost(globs: Sequence[str]) -> float:
        meter = Gradiometer(model, detector.objective, globs or "*", memory=detector.memory, output=detector.output)

        def read() -> None:
            if globs:
                meter.squared_norms(inputs, activations=True)
            else:
                meter.activation_norms(inputs)

        read()
        pairs = [(_seconds(read, device), _seconds(forward, device)) for _ in range(_REPEATS)]
        own, beside = zip(*pairs, strict=True)
        return float(statistics.median(own) / statistics.median(beside))

    return cost


def _seconds(work: Callable[[], None], device: torch.device | None) -> float:
    started = time.perf_counter()
    work()
    if device is not None and device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - started
