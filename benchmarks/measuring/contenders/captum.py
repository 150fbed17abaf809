"""Captum's `SampleGradientWrapper`: hooks that form every gradient of linear layers and convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from measuring.contenders.contender import WEIGHT_GRADIENTS, Kind, Run, Unavailable, chosen, expected
from measuring.networks import Network

#: Where it leaves gradients (B, *shape), as an attribute of each parameter.
FIELD = "sample_grad"


class SampleGradients:
    """`compute_param_sample_gradients` on the summed losses; parameters of other layers are frozen and not read."""

    title = "Captum SampleGradientWrapper"
    kind: Kind = "peer"
    slow = True
    packages: tuple[str, ...] = ("captum",)

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        try:
            from captum._utils.sample_gradient import SUPPORTED_MODULES, SampleGradientWrapper
        except ImportError as error:
            raise Unavailable(f"captum is not installed: {error}") from error
        if not inputs.is_floating_point():
            raise Unavailable("Captum asks for the gradient of what enters the network, and tokens have none")
        read = {
            id(own) for module in model.modules() if type(module) in SUPPORTED_MODULES for own in module.parameters()
        }
        others = [parameter for parameter in model.parameters() if id(parameter) not in read]
        for parameter in others:
            parameter.requires_grad_(requires_grad=False)
        parameters = chosen(model)
        if not parameters:
            raise Unavailable("Captum reads linear layers and 2-d convolutions only, and there is none")
        reference = list(network.reference(parameters).values())
        found = expected(network, model, inputs)
        wrapper = SampleGradientWrapper(model)
        wrapper.add_hooks()

        def call() -> Tensor:
            images = inputs.detach().requires_grad_()  # its hooks lie on what enters a layer, the first one too
            wrapper.compute_param_sample_gradients(network.loss(model(images), inputs), loss_mode="sum")
            if missing := [name for name, parameter in parameters.items() if not hasattr(parameter, FIELD)]:
                raise Unavailable(f"Captum left no gradients on {len(missing)} parameters: {missing[0]}, ...")
            gradients = [getattr(parameter, FIELD) for parameter in parameters.values()]
            return network.statistic.of(gradients, reference)

        note = f"forms the gradient of the image too; {WEIGHT_GRADIENTS}"
        if others:
            note += f"; it reads linear layers and 2-d convolutions only: {len(others)} other tensors are not read"
        return Run(call, found, note)
