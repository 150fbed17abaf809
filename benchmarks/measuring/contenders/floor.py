"""The floor: what any reading of gradients from one backward pass has to pay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from measuring.contenders.contender import Kind, Run, Unavailable
from measuring.networks import Network


class Floor:
    """Forward pass and backward pass of activations alone.

    No parameter requires a gradient, so autograd forms no weight gradient and keeps nothing for one. The backward pass
    starts at the loss and ends at the output of the first layer with parameters: the gradient of every layer's output
    exists then, and that of the image, which no reading needs, does not.
    """

    title = "floor: forward + backward of activations"
    kind: Kind = "bound"
    slow = False
    packages: tuple[str, ...] = ("torch",)

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        model.requires_grad_(requires_grad=False)
        first = _first_layer(model, inputs)
        outputs: list[Tensor] = []

        def catch(_module: nn.Module, _args: Any, output: Tensor) -> None:
            outputs.append(output.requires_grad_())

        first.register_forward_hook(catch)

        def call() -> None:
            outputs.clear()
            losses = network.loss(model(inputs), inputs)
            torch.autograd.grad(losses.sum(), outputs[0])

        return Run(call, note="no parameter requires a gradient; ends at the output of the first layer")


def _first_layer(model: nn.Module, inputs: Tensor) -> nn.Module:
    """The module with parameters of its own that is called first."""
    called: list[nn.Module] = []

    def note(module: nn.Module, _args: Any, _output: Any) -> None:
        called.append(module)

    owners = [module for module in model.modules() if any(True for _ in module.parameters(recurse=False))]
    handles = [module.register_forward_hook(note) for module in owners]
    with torch.no_grad():
        model(inputs[:1])
    for handle in handles:
        handle.remove()
    if not called:
        raise Unavailable("no module with parameters of its own is called")
    return called[0]
