"""Penultimate features of a classifier, caught on the way to its logits, and what detectors on them share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradiometer.detectors.arguments import encode
from gradiometer.detectors.checks import check_outputs, forward, run
from gradiometer.detectors.inputs import Inputs, rows
from gradiometer.detectors.layers import layer_of
from gradiometer.detectors.samples import Measurement
from gradiometer.errors import ModelError
from gradiometer.gradients.selection import Output
from gradiometer.gradients.state import scripted

Call = Callable[[nn.Module, Inputs, Output], Tensor]


class Features:
    """Reads logits and penultimate features of a batch.

    Args:
        model: Classifier in eval mode.
        encoder: Function from inputs to features (B, D), or None for the input of the last linear layer that the
            model calls, as a module or as `F.linear` with a parameter of the model.
        output: Where the logits are in what the model returns.
        remedy: What to do about a model without a linear layer, for the message.
    """

    def __init__(
        self,
        model: nn.Module,
        encoder: Callable[[Inputs], Tensor] | None,
        output: Output,
        remedy: str = "; give encoder=",
    ) -> None:
        self.model = model
        self.encoder = encoder
        self.output = output
        self._remedy = remedy
        # Found out with the first batch: to watch all functions takes fast ways through a model away.
        self._functions: bool | None = None

    def __call__(self, inputs: Inputs) -> tuple[Tensor, Tensor, str]:
        """Read a batch.

        Args:
            inputs: B samples.

        Returns:
            Logits (B, C), features (B, D), and the name of the layer that the features go into.

        Raises:
            ModelError: The model calls no linear layer, or the features are not (B, D).
        """
        if self.encoder is not None:
            logits = forward(self.model, inputs, self.output)
            with torch.no_grad():
                return logits, _flat(self.encoder(inputs), rows(inputs), "the encoder").detach(), "encoder"
        logits, features, name = self._caught(inputs, forward)
        return logits, features.detach(), name

    def attached(self, inputs: Inputs) -> tuple[Tensor, Tensor, str]:
        """The same without an encoder, with the history of logits and features, where gradients are on.

        Args:
            inputs: B samples.

        Returns:
            As for a call.

        Raises:
            ModelError: As for a call.
        """
        return self._caught(inputs, attached)

    def _caught(self, inputs: Inputs, call: Call) -> tuple[Tensor, Tensor, str]:
        """Logits, the input of the last linear layer, and its name."""
        if self._functions is None:
            self._functions = self._watched(inputs, forward, functions=True)[1].by_function
        logits, last = self._watched(inputs, call, functions=self._functions)
        if last.caught is None:
            raise ModelError(
                f"the model calls no linear layer to take features from{scripted(self.model) or self._remedy}"
            )
        name, features = last.caught
        return logits, _flat(features, rows(inputs), f"the linear layer {name!r}"), name or "the model"

    def _watched(self, inputs: Inputs, call: Call, *, functions: bool) -> tuple[Tensor, _LastLinear]:
        """Logits, and what was seen of linear layers: modules, and if wanted calls of `F.linear`."""
        last = _LastLinear(self.model)
        handles = []
        for name, module in self.model.named_modules():
            if isinstance(module, nn.Linear):
                handles.append(module.register_forward_pre_hook(last.enters(name)))
                handles.append(module.register_forward_hook(last.leaves))
        try:
            with last if functions else nullcontext():
                return call(self.model, inputs, self.output), last
        finally:
            for handle in handles:
                handle.remove()


class OnFeatures:
    """The part of a detector that scores penultimate features. Goes before Detector among the bases.

    Args:
        encoder: Function from inputs to features (B, D). None: the input of the last linear layer that the model
            calls, caught in the pass that also gives the logits.
        output: Where the logits are in what the model returns.
    """

    def _read_features_with(self, model: nn.Module, encoder: Callable[[Inputs], Tensor] | None, output: Output) -> None:
        self.encoder = encoder
        self.output = output
        self._features = Features(model, encoder, output)

    def _measure(self, inputs: Inputs) -> Measurement:
        outputs, features, layer = self._features(inputs)
        return Measurement(outputs, features.cpu().double().numpy(), (f"features into {layer}",))

    def _parameters(self) -> dict[str, Any]:
        inherited: dict[str, Any] = super()._parameters()  # type: ignore[misc]
        return inherited | {"encoder": encode(self.encoder), "output": encode(self.output)}


class _LastLinear(TorchFunctionMode):
    """Keeps the input of the last linear layer that a model calls.

    Args:
        model: The model, whose parameters give the layers their names.

    Attributes:
        caught: Name and input, or None before any.
        by_function: Whether the layer was called as `F.linear`, and not as a module.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.caught: tuple[str, Tensor] | None = None
        self.by_function = False
        self._inside = False
        self._model = model

    @cached_property
    def _names(self) -> dict[int, str]:
        """Names of the layers by the `id` of their parameters, which only calls of functions need."""
        return {id(parameter): layer_of(name) for name, parameter in self._model.named_parameters()}

    def enters(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        """A hook for the begin of a linear module."""

        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            # The last call is the one that counts; the features of earlier layers are let go.
            self.caught, self.by_function, self._inside = (name, args[0]), False, True

        return hook

    def leaves(self, *_: Any) -> None:
        """A hook for the end of a linear module."""
        self._inside = False

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by torch in place of every torch function."""
        kwargs = kwargs or {}
        if function is F.linear and not self._inside:
            given = dict(zip(("input", "weight"), args, strict=False)) | kwargs
            if (name := self._names.get(id(given["weight"]))) is not None:
                self.caught, self.by_function = (name, given["input"]), True
        return function(*args, **kwargs)


def _flat(features: Any, count: int, where: str) -> Tensor:
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != count:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ModelError(f"{where} gives features {shape} where ({count}, D) is needed; give an encoder= that does")
    return features


def attached(model: nn.Module, inputs: Inputs, output: Output = None) -> Tensor:
    """Logits of a batch with their history, where gradients are on.

    Args:
        model: The model, in eval mode.
        inputs: As for `checks.forward`.
        output: Where the logits are in what the model returns.

    Returns:
        Logits (B, C).

    Raises:
        ModelError: As `checks.forward`.
    """
    logits: Tensor = run(model, inputs, output)
    check_outputs(logits, inputs, model)
    return logits
