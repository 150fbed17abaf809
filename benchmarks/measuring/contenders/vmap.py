"""Every gradient explicitly, by `torch.func.vmap` over `grad`: what PyTorch itself recommends."""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from measuring.contenders.contender import Kind, Run, chosen, expected
from measuring.networks import Network


class Vmap:
    """The gradients of the whole batch in one call, and the statistic of them."""

    title = "torch.func.vmap"
    kind: Kind = "peer"
    slow = True
    packages: tuple[str, ...] = ("torch",)

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        parameters = {name: parameter.detach() for name, parameter in chosen(model).items()}
        reference = list(network.reference(parameters).values())

        def loss(values: dict[str, Tensor], sample: Tensor) -> Tensor:
            one = sample.unsqueeze(0)
            return network.loss(functional_call(model, values, (one,)), one).sum()

        gradients = vmap(grad(loss), in_dims=(None, 0))

        def call() -> Tensor:
            return network.statistic.of(list(gradients(parameters, inputs).values()), reference)

        return Run(call, expected(network, model, inputs))
