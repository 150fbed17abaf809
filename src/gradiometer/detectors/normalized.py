"""The maps behind the normalisation layers of a network, and gradients with respect to them."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradiometer.errors import InputError, ModelError
from gradiometer.gradients.state import scripted

Result = TypeVar("Result")
Named = list[tuple[str, Tensor]]
"""A tensor for each call of a layer, with the name of the layer, in the order of the calls."""

KINDS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)
"""Layers that normalise maps (B, channels, ...): batch, instance and group normalisation."""

_RELU = (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)


class NormalizedMaps:
    """Watches what comes out of the normalisation layers of a model.

    Args:
        model: The model, in eval mode.
        layers: Globs of the names of the layers, `"*"` for all.
        remedy: What else to do about a model without such layers, for the message.

    Raises:
        InputError: A glob matches no normalisation layer.
        ModelError: The model has none.
    """

    def __init__(self, model: nn.Module, layers: str | Sequence[str] = "*", remedy: str = "") -> None:
        found = {name: module for name, module in model.named_modules() if isinstance(module, KINDS)}
        if not found:
            raise ModelError(
                "the model has no batch, instance or group normalisation module, behind which gradients are read"
                f"{scripted(model) or remedy}"
            )
        globs = [layers] if isinstance(layers, str) else list(layers)
        for glob in globs:
            if not any(fnmatch.fnmatchcase(name, glob) for name in found):
                some = ", ".join(list(found)[:8])
                raise InputError(f"layers={glob!r} matches none of the {len(found)} normalisation layers ({some}, ...)")
        if not globs:
            raise InputError('layers is empty: give a glob or globs of names, "*" for all')
        self._layers = {n: m for n, m in found.items() if any(fnmatch.fnmatchcase(n, glob) for glob in globs)}

    def activity(self, call: Callable[[], Result], count: int) -> tuple[Result, Named]:
        """Run a pass of the model and take the share of positions at which the ReLU behind each map is not zero.

        That is the first ReLU, as a module or a function, that is called after the layer and keeps its shape: in a
        residual block the one behind the sum. A map without one counts as active everywhere.

        Args:
            call: Runs the model.
            count: Samples B that go through it.

        Returns:
            What it returned, and the shares (B, channels).

        Raises:
            ModelError: No layer was called, or one on something that does not begin with the samples.
        """
        found: Named = []
        waiting: Named = []

        def active(result: Tensor) -> None:
            behind = [name for name, output in waiting if output.shape == result.shape]
            found.extend((name, mean_of_positions((result != 0).double())) for name in behind)
            waiting[:] = [(name, output) for name, output in waiting if output.shape != result.shape]

        with _Rectified(active):
            returned = self._watched(call, lambda name, output: waiting.append((name, output)), count)
        left = ((name, mean_of_positions(torch.ones_like(output).double())) for name, output in waiting)
        return returned, self._some([*found, *left])

    def probed(self, call: Callable[[], Result], count: int) -> tuple[Result, Named]:
        """Run a pass of the model, with gradients on, so that it can be differentiated with respect to the maps.

        A zero is added to each map. The gradient with respect to the zero is that with respect to the map, also where
        no parameter requires gradients, and where the map is overwritten in place afterwards.

        Args:
            call: Runs the model.
            count: Samples B that go through it.

        Returns:
            What it returned, and the zeros (B, channels, ...).

        Raises:
            ModelError: As for `activity`.
        """
        found: Named = []

        def probe(name: str, output: Tensor) -> Tensor:
            found.append((name, torch.zeros_like(output, requires_grad=True)))
            return output + found[-1][1]

        return self._watched(call, probe, count), self._some(found)

    def _watched(self, call: Callable[[], Result], look: Callable[[str, Tensor], Tensor | None], count: int) -> Result:
        def hook(name: str) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
            def see(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
                if output.ndim < 2 or len(output) != count:
                    raise ModelError(
                        f"the output {tuple(output.shape)} of the layer {name!r} does not begin with {count} samples "
                        "and their channels; choose others with layers="
                    )
                return look(name, output)

            return see

        handles = [module.register_forward_hook(hook(name)) for name, module in self._layers.items()]
        try:
            return call()
        finally:
            for handle in handles:
                handle.remove()

    def _some(self, found: Named) -> Named:
        if not found:
            raise ModelError(
                f"the model calls none of its {len(self._layers)} normalisation layer(s); choose others with layers="
            )
        return found


class _Rectified(TorchFunctionMode):
    """Shows what comes out of every ReLU, before it is overwritten.

    Args:
        show: Told of each result.
    """

    def __init__(self, show: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._show = show

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by torch in place of every torch function."""
        result = function(*args, **(kwargs or {}))
        if function in _RELU:
            self._show(result)
        return result


def mean_of_positions(values: Tensor) -> Tensor:
    """The mean over all positions (B, channels) of maps (B, channels, ...)."""
    return values.flatten(2).mean(2) if values.ndim > 2 else values


def gradients(value: Tensor, probes: Named) -> Named:
    """Gradients of a sum over samples with respect to the maps.

    Args:
        value: The sum.
        probes: What `NormalizedMaps.probed` gave.

    Returns:
        Gradients in the shape of the maps; zeros of a map that has no influence.

    Raises:
        ModelError: The value has no history.
    """
    if not value.requires_grad:
        raise ModelError("the model cuts its outputs off from all of these layers, so that no gradient reaches them")
    found = torch.autograd.grad(value, [probe for _, probe in probes], allow_unused=True, materialize_grads=True)
    return [(name, gradient) for (name, _), gradient in zip(probes, found, strict=True)]
