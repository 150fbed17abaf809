"""More data, less uncertainty: where ten networks disagree about two moons, for 5 to 500 points.

    python examples/more_data.py --out lecture

What an ensemble does not know is the mutual information between the class and the member: the entropy of the mean
prediction minus the mean entropy. It is high where the members are sure of different things.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import drawing
import ensembles
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from sklearn.datasets import make_moons
from torch import Tensor, nn

from gradiometer.detectors import DeepEnsemble
from gradiometer.reports import figures

SIZES = (5, 20, 100, 500)
MEMBERS = 10
DRAWS = 3
"""Data sets that the shares are averaged over; the first one is drawn."""

NOISE = 0.15
UNCERTAIN = 0.1
"""Nats of mutual information from which a place counts as uncertain; two classes have log 2 = 0.69 at most."""

LEFT, RIGHT, BOTTOM, TOP = -2.0, 3.0, -1.5, 2.0
"""The part of the plane that is looked at: the moons, and about as much again around them."""


def plane(resolution: int) -> Tensor:
    """Points (resolution², 2) on a grid over the plane, row by row from the bottom."""
    across, up = torch.linspace(LEFT, RIGHT, resolution), torch.linspace(BOTTOM, TOP, resolution)
    return torch.cartesian_prod(up, across).flip(1)


def moons(count: int, draw: int) -> tuple[Tensor, Tensor]:
    """The first points of two moons, and their classes; more points are these and further ones."""
    points, classes = make_moons(max(SIZES), noise=NOISE, random_state=draw)
    return torch.tensor(points[:count], dtype=torch.float32), torch.tensor(classes[:count])


def disagreement(
    points: Tensor, classes: Tensor, places: Tensor, members: int, steps: int, *, prior: bool
) -> npt.NDArray[np.float64]:
    """Mutual information in nats at some places, of networks that learnt the classes of some points.

    Args:
        points: (N, 2).
        classes: (N,), 0 or 1.
        places: (B, 2).
        members: Networks in the ensemble.
        steps: Of the training of each.
        prior: Whether members are held near draws from a wide prior; without, only their first weights differ.
    """

    def loss(network: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(network(points), classes, reduction="sum")

    trained = []
    for seed in range(members):
        if prior:
            trained.append(ensembles.member(seed, 2, 2, loss, steps))
        else:
            torch.manual_seed(seed)
            network = ensembles.network(2, 2)
            trained.append(ensembles.minimised(network, partial(loss, network), steps))
    return np.asarray(DeepEnsemble(trained, part="epistemic").predict(places), dtype=np.float64)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the ensembles, draw the maps, and write the shares of the plane that are uncertain."""
    options = drawing.parser(__doc__).parse_args(arguments)
    resolution, draws, members, steps = (16, 1, 6, 50) if options.quick else (60, DRAWS, MEMBERS, 80)
    places = plane(resolution)
    shares: dict[str, dict[int, list[float]]] = {}
    maps = {}
    for name, prior in (("prior", True), ("plain", False)):
        shares[name] = {size: [] for size in SIZES}
        for number in range(draws):
            for size in SIZES:
                found = disagreement(*moons(size, number), places, members, steps, prior=prior)
                shares[name][size].append(float((found > UNCERTAIN).mean()))
                if prior and number == 0:
                    maps[size] = found.reshape(resolution, resolution)
    means = {name: {size: float(np.mean(of)) for size, of in each.items()} for name, each in shares.items()}
    record = {
        "settings": {
            "members": members,
            "steps": steps,
            "noise": NOISE,
            "uncertain_from_nats": UNCERTAIN,
            "draws": draws,
        },
        "uncertain_share": means,
        "uncertain_share_of_each_draw": shares,
        "mean_information": {size: float(found.mean()) for size, found in maps.items()},
        "smallest_information": min(float(found.min()) for found in maps.values()),
    }
    with figures.drawing():
        figure = draw(maps, means)
    title = (
        "Maps of the mutual information of ten networks about two moons, and the share of the plane that is uncertain"
    )
    drawing.write(options.out, "more_data", figure, title, record)
    return 0


def draw(maps: dict[int, npt.NDArray[np.float64]], shares: dict[str, dict[int, float]]) -> Figure:
    """Four maps, and the share of the plane over the number of points."""
    figure = figures.new_figure(8.2, 3.5)
    grid = figure.add_gridspec(2, 3, width_ratios=(1, 1, 1.05))
    places = [figure.add_subplot(grid[row, column]) for row in range(2) for column in range(2)]
    for ax, (size, found) in zip(places, maps.items(), strict=True):
        extent = (LEFT, RIGHT, BOTTOM, TOP)
        style = {"cmap": drawing.HEAT, "aspect": "auto", "interpolation": "none", "vmin": 0, "vmax": 0.5}
        image = ax.imshow(found, origin="lower", extent=extent, **style)
        ensembles.scatter(ax, *moons(size, 0))
        ax.set(xlim=(LEFT, RIGHT), ylim=(BOTTOM, TOP), xticks=(), yticks=())
        ax.set_title(f"{size} points", fontsize=9, loc="left")
    figure.colorbar(image, ax=places, location="left", shrink=0.8, aspect=25, label="mutual information, nats")
    ax = figure.add_subplot(grid[:, 2])
    for name, label, colour, line, marker in (
        ("prior", "members near a wide prior", drawing.BLUE, "-", "o"),
        ("plain", "plain training", drawing.ORANGE, "--", "s"),
    ):
        of = shares[name]
        ax.plot(
            [*of], [100 * share for share in of.values()], line, color=colour, marker=marker, markersize=4, label=label
        )
    ax.set(xscale="log", xlabel="points of both classes", ylabel=f"share of the plane above {UNCERTAIN} nats, %")
    ax.set_xticks(SIZES, [str(size) for size in SIZES])
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    sys.exit(main())
