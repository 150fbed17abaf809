"""Small networks on points of the plane or the line, made to disagree where there are no data.

Networks that start from the usual small weights and fit five points agree far too often: all of them find the same
simple answer. Here each member stays near its own draw from a wide normal distribution, the prior, as far as the data
let it. With the sum over data of the loss, and a penalty that does not grow with them, more data leave less of the
prior.

Source: Pearce, Leibfried and Brintrup, "Uncertainty in Neural Networks: Approximately Bayesian Ensembling", AISTATS
2020.
"""

from __future__ import annotations

from collections.abc import Callable

import drawing
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

WIDTH = 32
SPREAD = 1.5
"""Standard deviation of the prior: of biases, and of the sum that a layer makes of inputs of size one."""


def scatter(ax: Axes, points: Tensor, labels: Tensor) -> None:
    """Show points (N, 2) of two classes on a map; as pixels, because hundreds of shapes make a large file."""
    for label, (marker, face, edge) in enumerate((("o", "white", "black"), ("^", drawing.ORANGE, "white"))):
        of = points[labels == label]
        ax.scatter(
            of[:, 0], of[:, 1], s=10, marker=marker, color=face, edgecolors=edge, linewidths=0.4, rasterized=True
        )


def network(inputs: int, outputs: int) -> nn.Sequential:
    """A network with two hidden layers, with PyTorch's initial weights."""
    hidden = (nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(WIDTH, outputs))


def member(seed: int, inputs: int, outputs: int, loss: Callable[[nn.Module], Tensor], steps: int = 80) -> nn.Module:
    """One member of an ensemble: drawn from the prior, then trained to stay near where it was drawn.

    Args:
        seed: Of the draw.
        inputs: Numbers that go in.
        outputs: Numbers that come out.
        loss: The sum of the losses of all data, for a network.
        steps: Steps of L-BFGS, which needs fewer of them than gradient descent for so few weights.

    Returns:
        The network, in evaluation mode.
    """
    torch.manual_seed(seed)
    made = network(inputs, outputs)
    for weight in made.parameters():
        nn.init.normal_(weight, std=_spread(weight))
    spreads = torch.cat([torch.full((weight.numel(),), _spread(weight)) for weight in made.parameters()])
    anchor = parameters_to_vector(made.parameters()).detach()

    def penalised() -> Tensor:
        moved = (parameters_to_vector(made.parameters()) - anchor) / spreads
        return loss(made) + moved.square().sum() / 2

    return minimised(made, penalised, steps)


def _spread(weight: Tensor) -> float:
    """Standard deviation of the prior of the entries of a weight or a bias."""
    return SPREAD / weight.shape[1] ** 0.5 if weight.ndim == 2 else SPREAD


def minimised(made: nn.Module, loss: Callable[[], Tensor], steps: int) -> nn.Module:
    """A network after some steps of L-BFGS on a loss, in evaluation mode."""
    optimizer = torch.optim.LBFGS(made.parameters(), max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    return made.eval()
