"""BackPACK's `BatchL2Grad`: a table from layers to squared norms, on top of an ordinary backward pass.

Inner products need the gradients themselves: `BatchGrad` forms them.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from measuring.contenders.contender import WEIGHT_GRADIENTS, Kind, Run, Unavailable, chosen, expected, out_of_place
from measuring.networks import Network
from measuring.statistic import SQUARED_NORMS


class BatchL2:
    """`backward()` under `backpack(...)`; it also forms the batched weight gradients."""

    title = "BackPACK"
    kind: Kind = "peer"
    slow = True
    packages: tuple[str, ...] = ("backpack-for-pytorch",)

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        try:
            from backpack import backpack, extend
            from backpack.extensions import BatchGrad, BatchL2Grad
        except ImportError as error:
            raise Unavailable(f"backpack-for-pytorch is not installed: {error}") from error
        # Where it leaves squared norms (B,), or gradients (B, *shape), as an attribute of each parameter.
        squares = network.statistic is SQUARED_NORMS
        extension, field = (BatchL2Grad(), "batch_l2") if squares else (BatchGrad(), "grad_batch")
        # It warns of every container, and PyTorch of hooks on the layer that sees the image. Both are harmless here:
        # a parameter without a value is an error below.
        warnings.filterwarnings("ignore", message=f"Extension saving to {field}")
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        parameters = chosen(model)
        reference = list(network.reference(parameters).values())
        found = expected(network, model, inputs)
        note = out_of_place(model)
        extended = extend(model)

        def call() -> Tensor:
            extended.zero_grad(set_to_none=True)
            with backpack(extension):
                network.loss(extended(inputs), inputs).sum().backward()
            if missing := [name for name, parameter in parameters.items() if not hasattr(parameter, field)]:
                raise Unavailable(
                    f"BackPACK has no rule for the layers of {len(missing)} parameters: {missing[0]}, ..."
                )
            values = [getattr(parameter, field) for parameter in parameters.values()]
            return torch.stack(values, 1) if squares else network.statistic.of(values, reference)

        return Run(call, found, f"`{type(extension).__name__}`; {WEIGHT_GRADIENTS}{note}")
