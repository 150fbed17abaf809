"""`gradiometer challenge`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiometer.cli import artefacts, sources
from gradiometer.cli.artefacts import DEVICE, MODEL
from gradiometer.cli.command import Command, flag_of, option
from gradiometer.cli.sources import FORMS, LIMIT, Reading
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import InputError

if TYPE_CHECKING:
    from gradiometer.data import Images

_ATTACK = "attacks"


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Settings of the command."""

    images: str = option(f"the originals: {FORMS}")
    kind: str = option(
        "a corruption of CIFAR-10-C (gaussian_noise, fog, ...) or in the manner of CURE-TSR (haze, dirty_lens, ...), "
        "or an attack (fgsm, bim, pgd, carlini_wagner, least_likely, negative, colour_shift)"
    )
    out: str = option("file of the changed images, ending in .npz; it is replaced if it is there")
    level: int | None = option("1 (weak) to 5 (strong), for corruptions", None)
    limit: int | None = option(LIMIT, None)
    seed: int = option("of what is random", 0)
    model: str | None = option(f"what is attacked: {MODEL}", None, group=_ATTACK)
    settings: Mapping[str, Any] | None = option(
        "other settings of the attack than its defaults, such as '{steps: 40}'", None, group=_ATTACK
    )
    cache: str | None = option("folder of finished batches, so that an interrupted run continues", None, group=_ATTACK)
    batch_size: int = option("images that are attacked at once", 64, group=_ATTACK)
    model_options: Mapping[str, Any] | None = option(
        "more about the model, such as '{classes: 10}'", None, group=_ATTACK
    )
    device: str = option(DEVICE, "auto", group=_ATTACK)


def run(options: Options, terminal: Terminal) -> None:
    """Change images and write them."""
    from gradiometer import data
    from gradiometer.challenges import ATTACKS, CORRUPTIONS

    artefacts.check_folder(Path(options.out))
    if Path(options.out).suffix.lower() != ".npz":
        raise InputError(f"out is {options.out}; images are written to a file that ends in .npz")
    if options.kind not in ATTACKS and options.kind not in CORRUPTIONS:
        raise InputError(
            f"unknown kind {options.kind!r}; there are the corruptions {', '.join(CORRUPTIONS)}, and the attacks "
            f"{', '.join(ATTACKS)}"
        )
    changed = _attacked(options, terminal) if options.kind in ATTACKS else _corrupted(options)
    data.save(changed, options.out)
    level = "" if options.level is None else f" at level {options.level}"
    terminal.show(f"{options.out}: {len(changed):,} images, {options.kind}{level}")


def _corrupted(options: Options) -> Images:
    from gradiometer.challenges import corrupt, corruption

    if options.level is None:
        raise InputError(f"{options.kind} comes in levels from 1 to 5; choose one with --level")
    of_attacks = (entry for entry in fields(options) if entry.metadata["group"] == _ATTACK)
    if given := [flag_of(entry) for entry in of_attacks if getattr(options, entry.name) != entry.default]:
        raise InputError(f"{options.kind} is a corruption, which asks no model; leave {', '.join(given)} out")
    change = corruption(options.kind, options.level)
    images = sources.load(options.images, options, limit=options.limit)
    return corrupt(images, change, seed=options.seed)


def _attacked(options: Options, terminal: Terminal) -> Images:
    from gradiometer.challenges import attack, attack_images
    from gradiometer.challenges.attacks.named import seeded

    if options.level is not None:
        raise InputError(f"{options.kind} is an attack, which has no levels; give its strength with --settings")
    if options.model is None:
        raise InputError(f"{options.kind} attacks a model; name it with --model")
    drawn = {"seed": options.seed} if seeded(options.kind) else {}
    chosen = attack(options.kind, **{**drawn, **(options.settings or {})})
    model = artefacts.load_model(options.model, options.model_options or {}, options.device)
    images = sources.load(options.images, options, limit=options.limit)
    if images.labels is None:
        terminal.note("the images have no labels: they are led away from the classes that the model predicts")
    with terminal.progress() as progress:
        return attack_images(
            chosen,
            model,
            images,
            batch_size=options.batch_size,
            seed=options.seed,
            cache=options.cache,
            progress=lambda done, total: progress("attacked", done, total),
        )


COMMAND = Command(
    name="challenge",
    summary="write corrupted or attacked versions of images",
    purpose="""
        Make a challenge out of images: a corruption at one of five levels, or an attack on a model. Labels and base
        images are kept, so that a later split holds an image and its changed version together. The pixels are stored
        in 8 bits, like those they stand beside.
    """,
    examples="""
        # haze at the third of five levels
        gradiometer challenge --images digits --kind haze --level 3 --out haze.npz

        # an attack on the shipped model, which continues when it was interrupted
        gradiometer challenge --images cifar10:test --limit 1000 --kind pgd --settings '{steps: 40}' \\
            --model resnet20-cifar10 --cache attacked/ --out pgd.npz
    """,
    options=Options,
    run=run,
    interrupted="with --cache, the same command continues where it was",
)
