"""Opacus: explicit gradients of every sample, or their norms layer by layer (ghost clipping)."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from measuring.contenders.contender import (
    WEIGHT_GRADIENTS,
    Kind,
    Run,
    Unavailable,
    chosen,
    expected,
    frozen,
    only_squared_norms,
    out_of_place,
)
from measuring.networks import Network


class Opacus:
    """Opacus' hooks around the network.

    Opacus refuses layers that have both parameters and buffers. Batch norm is then frozen: the network computes the
    same, and the parameters of batch norm are not read.

    Args:
        ghost: Whether norms are taken layer by layer, without keeping gradients. Its closed form covers linear layers
            and embeddings; for others the layer's gradients are explicit for a moment.
    """

    kind: Kind = "peer"
    slow = True
    packages: tuple[str, ...] = ("opacus",)

    def __init__(self, *, ghost: bool) -> None:
        self.ghost = ghost
        self.title = "Opacus, ghost norms" if ghost else "Opacus, gradient samples"

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        if self.ghost:
            only_squared_norms(network, "ghost clipping")
        try:
            from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
        except ImportError as error:
            raise Unavailable(f"opacus is not installed: {error}") from error
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        note = WEIGHT_GRADIENTS + out_of_place(model)
        model.train()  # its hooks rest in evaluation mode
        if refused := GradSampleModule.validate(model):
            _, tensors = frozen(model, nn.modules.batchnorm._BatchNorm)
            if remaining := GradSampleModule.validate(model):
                raise Unavailable(f"Opacus refuses the network: {remaining[0]}")
            note += (
                f"; Opacus refuses batch norm ({len(refused)} layers), which has both parameters and buffers: it is "
                f"frozen here, and its {tensors} parameter tensors are not read"
            )
        for module in model.modules():
            owner = any(True for _ in module.parameters(recurse=False))
            if not owner or isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.training = False  # of this module alone: dropout and its like stay as they are
        parameters = chosen(model)
        reference = list(network.reference(parameters).values())
        found = expected(network, model, inputs)
        wrap = GradSampleModuleFastGradientClipping if self.ghost else GradSampleModule
        wrapped = wrap(model, loss_reduction="sum")

        def call() -> Tensor:
            wrapped.zero_grad(set_to_none=True)
            network.loss(wrapped(inputs), inputs).sum().backward()
            if self.ghost:
                norms = [_left(parameter, "_norm_sample") for parameter in parameters.values()]
                return torch.stack(norms, 1).square()
            gradients = [_left(parameter, "grad_sample") for parameter in parameters.values()]
            return network.statistic.of(gradients, reference)

        return Run(call, found, note)


def _left(parameter: nn.Parameter, attribute: str) -> Tensor:
    """What Opacus left on a parameter."""
    value = getattr(parameter, attribute, None)
    if not isinstance(value, Tensor):
        raise Unavailable(f"Opacus left {type(value).__name__} instead of a tensor in {attribute}")
    return value
