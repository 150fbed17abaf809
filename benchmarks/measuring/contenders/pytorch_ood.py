"""pytorch-ood's `GradUncertainty`: every gradient explicitly, by `torch.func.vmap` over `grad`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from measuring.contenders.contender import Kind, Run, Unavailable, expected, only_squared_norms
from measuring.networks import Network, confounding_loss


class GradUncertainty:
    """`GradUncertainty.predict`, which sums over parameters and flips the sign."""

    title = "pytorch-ood GradUncertainty (vmap)"
    kind: Kind = "peer"
    slow = True
    packages: tuple[str, ...] = ("pytorch-ood",)

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        only_squared_norms(network, "pytorch-ood")
        if network.loss is not confounding_loss:
            raise Unavailable("pytorch-ood has its loss built in, which is for classifiers")
        try:
            from pytorch_ood.detector import GradUncertainty as Detector
        except ImportError as error:
            raise Unavailable(f"pytorch-ood has no GradUncertainty here: {error}") from error
        detector = Detector(model)

        def call() -> Tensor:
            return -torch.as_tensor(detector.predict(inputs))

        return Run(
            call,
            expected(network, model, inputs, softmax_loss),
            "one sum over all parameters; its loss is the cross-entropy of softmax probabilities with all ones",
        )


def softmax_loss(outputs: Tensor, _: Any) -> Tensor:
    """The loss that `GradUncertainty` has built in, in a form that does not underflow: (B,)."""
    return -outputs.log_softmax(1).sum(1)
