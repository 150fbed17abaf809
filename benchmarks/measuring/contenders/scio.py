"""scio's `GradNorm`: every gradient explicitly, by `torch.func.vmap` over `grad`, and one norm of all together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from measuring.contenders.contender import Kind, Run, Unavailable, expected, only_squared_norms
from measuring.contenders.pytorch_ood import softmax_loss
from measuring.networks import Network, confounding_loss

#: Depth and number of the layer that is the whole network.
WHOLE = (0, 1)


class GradNorm:
    """`GradNorm(grad_norm=2)` on a recorder of the whole network, squared."""

    title = "scio GradNorm (vmap)"
    kind: Kind = "peer"
    slow = True
    packages: tuple[str, ...] = ("scio",)

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        only_squared_norms(network, "scio")
        if network.loss is not confounding_loss:
            raise Unavailable("scio has its loss built in, which is for classifiers")
        try:
            from scio.recorder import Recorder
            from scio.scores import GradNorm as Score
        except ImportError as error:
            raise Unavailable(f"scio is not installed, it needs Python 3.12 or newer: {error}") from error
        found = expected(network, model, inputs, _loss)
        # A network whose control flow cannot be traced is refused unless it says that this is all right.
        recorder = Recorder(model, input_data=inputs[:1], force_static_flow=False)
        recorder.record(WHOLE)
        labels = torch.zeros(1, dtype=torch.int64)
        score = Score(grad_norm=2.0).fit(recorder, inputs[:1], labels)

        def call() -> Tensor:
            norms: Tensor = score(inputs)[1][:, 0]
            return norms.square()

        note = "one sum over all parameters; its loss is the cross-entropy with equal probabilities"
        return Run(call, found, note)


def _loss(outputs: Tensor, inputs: Tensor) -> Tensor:
    """The loss that `GradNorm` has built in: cross-entropy with equal probabilities, (B,)."""
    return softmax_loss(outputs, inputs) / outputs.shape[1]
