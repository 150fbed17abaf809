"""TorchJD's autogram: the Gram matrix of all gradients of a batch, whose diagonal holds the squared norms."""

from __future__ import annotations

from torch import Tensor, nn

from measuring.contenders.contender import Kind, Run, Unavailable, expected, frozen, only_squared_norms
from measuring.networks import Network


class Gramian:
    """`Engine(model, batch_dim=0).compute_gramian(losses)`.

    It refuses batch norm, which is frozen here: the network computes the same, and those parameters are not read.
    """

    title = "TorchJD autogram"
    kind: Kind = "peer"
    slow = True
    packages: tuple[str, ...] = ("torchjd",)

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        only_squared_norms(network, "TorchJD")
        try:
            from torchjd.autogram import Engine
        except ImportError as error:
            raise Unavailable(f"torchjd is not installed: {error}") from error
        note = "one sum over all parameters, the diagonal of a (batch × batch) Gram matrix that it forms whole"
        layers, tensors = frozen(model, nn.modules.batchnorm._BatchNorm)
        if layers:
            note += f"; it refuses batch norm ({layers} layers), whose {tensors} parameter tensors are not read"
        found = expected(network, model, inputs)
        try:
            engine = Engine(model, batch_dim=0)
        except ValueError as error:
            raise Unavailable(f"TorchJD refuses the network: {error}") from error

        def call() -> Tensor:
            return engine.compute_gramian(network.loss(model(inputs), inputs)).diagonal()

        return Run(call, found, note)
