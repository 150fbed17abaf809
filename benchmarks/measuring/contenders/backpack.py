"""BackPACK's `BatchL2Grad`: a table from layers to squared norms, on top of an ordinary backward pass."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from measuring.contenders.contender import WEIGHT_GRADIENTS, Kind, Run, Unavailable, expected_norms
from measuring.networks import Network

#: Where it leaves the squared norms (B,), as an attribute of each parameter.
FIELD = "batch_l2"


class BatchL2:
    """`backward()` under `backpack(BatchL2Grad())`; it also forms the batched weight gradients."""

    title = "BackPACK BatchL2Grad"
    kind: Kind = "peer"
    slow = True
    packages: tuple[str, ...] = ("backpack-for-pytorch",)

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        try:
            from backpack import backpack, extend
            from backpack.extensions import BatchL2Grad
        except ImportError as error:
            raise Unavailable(f"backpack-for-pytorch is not installed: {error}") from error
        # It warns of every container, and PyTorch of hooks on the layer that sees the image. Both are harmless here:
        # a parameter without a squared norm is an error below.
        warnings.filterwarnings("ignore", message="Extension saving to batch_l2")
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        parameters = dict(model.named_parameters())
        expected = expected_norms(model, inputs, network.loss)
        extended = extend(model)

        def call() -> Tensor:
            extended.zero_grad(set_to_none=True)
            with backpack(BatchL2Grad()):
                network.loss(extended(inputs), inputs).sum().backward()
            if missing := [name for name, parameter in parameters.items() if not hasattr(parameter, FIELD)]:
                raise Unavailable(
                    f"BackPACK has no rule for the layers of {len(missing)} parameters: {missing[0]}, ..."
                )
            return torch.stack([getattr(parameter, FIELD) for parameter in parameters.values()], 1)

        return Run(call, expected, WEIGHT_GRADIENTS)
