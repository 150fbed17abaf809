"""`gradiometer benchmark suite`."""

from __future__ import annotations

from dataclasses import dataclass

from gradiometer.cli.benchmark.tables import CONTINUES, OUT, SETS, AttackOptions, given, write
from gradiometer.cli.command import Command, option
from gradiometer.cli.terminal import Terminal

_TYPES = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "gaussian_blur", "defocus_blur"),
    *("motion_blur", "zoom_blur", "glass_blur", "snow", "frost", "fog", "spatter", "brightness", "contrast"),
    *("saturate", "elastic_transform", "pixelate", "jpeg_compression"),
)


@dataclass(frozen=True, kw_only=True)
class SuiteOptions(AttackOptions):
    """Settings of the command: those of `gradiometer.benchmarks.suite.SuiteSettings`."""

    protocols: tuple[str, ...] = option("known-only, matched and transfer, or fewer of them", ("known-only",))
    unfiltered: bool = option("a second row for each attack, with all images (true or false)", False)
    input_step: bool = option("Mahalanobis with an input step too, fifteen passes an image (true or false)", False)
    challenges: tuple[str, ...] = option("data sets that it was not trained for", SETS)
    types: tuple[str, ...] = option("corruptions by name; all of CIFAR-10-C when absent", _TYPES)
    levels: tuple[int, ...] = option("which levels from 1 to 5", (3,))
    out: str = option(OUT, "suite")


def run(options: SuiteOptions, terminal: Terminal) -> None:
    """Challenge in every way and compare, print the tables, write the page."""
    from gradiometer.benchmarks import suite

    settings = suite.SuiteSettings(**given(options))
    with terminal.progress() as progress:
        outcome = suite.run(settings, progress=progress)
    write(outcome, settings.out, terminal)


COMMAND = Command(
    name="suite",
    summary="data sets, attacks and corruptions in one table, with means over all",
    purpose="""
        All kinds of challenge on one network: whole data sets, attacks, and the nineteen corruptions of CIFAR-10-C.
        Prints the mean AUROC of every detector over all kinds, over each family and over the means of the families,
        Guard minus every baseline with paired intervals, and where the best baseline is ahead. Needs the extra
        `attacks`.
    """,
    examples="""
        # everything on the shipped model
        gradiometer benchmark suite --data-root data --limit 500 --out tables/suite

        # two levels of corruption on another network
        gradiometer benchmark suite --data-root data --model runs/mine --levels 1 3 --limit 500
    """,
    options=SuiteOptions,
    run=run,
    interrupted=CONTINUES,
)
