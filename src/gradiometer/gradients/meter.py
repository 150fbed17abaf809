"""The instrument: per-sample gradient statistics of any module, from one forward and one backward pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gradiometer.errors import InputError, ModelError
from gradiometer.gradients import passes, samples
from gradiometer.gradients.activations import Gathered, LayerInputs, Wanted, gathered, one_by_one
from gradiometer.gradients.arguments import chosen_parameters, found_at, memory_in_bytes, placed_reference
from gradiometer.gradients.class_grams import ClassGrams, class_grams
from gradiometer.gradients.collector import Reduce
from gradiometer.gradients.factors import Factor, exact, wide
from gradiometer.gradients.failures import ProgramMismatch, as_failure_of_the_model
from gradiometer.gradients.objectives import ConfoundingLabel, Loss, Objective, class_numbers
from gradiometer.gradients.passes import Found, Power, Subject
from gradiometer.gradients.peak import FEW, MORE, Need
from gradiometer.gradients.plan import Plan, make_plan
from gradiometer.gradients.planning import Program, check_finite, check_mode
from gradiometer.gradients.reader import Reader
from gradiometer.gradients.readings import Readings
from gradiometer.gradients.samples import Inputs
from gradiometer.gradients.seeds import check_outputs
from gradiometer.gradients.selection import Output, kind_of, selected
from gradiometer.gradients.single import TYPES
from gradiometer.gradients.state import check_tracked, left_as_found, plain, scripted, uncached, uncompiled
from gradiometer.gradients.strides import ordered

#: Working memory for several directions together when none is given.
_TOGETHER = 2**30
#: Samples of all labels together up to which several labels are sent back at once; with more, each alone is as fast.
_STACKED = 96


class Gradiometer:
    """Reads, for each sample of a batch, how far its objective would change each parameter of a model.

    The statistics are exact: they agree with backpropagating one sample at a time. Gradients of weights are never
    formed by autograd; every operation that takes a parameter yields its statistic in closed form from its input and
    the gradient of its output, on the way back. The model is left as found.

    For each new shape of input the instrument first makes a plan and checks it on three samples against the loop over
    single samples; parameters on which they differ are left to the loop. What a model does only for other values than
    those three have (samples that mix when a gate opens) is out of sight of that check.

    Args:
        model: Any module in evaluation mode; one of `torch.compile` is read without its compiled code. It takes a
            tensor, or a tuple or dict of tensors, with the samples in the first dimension.
        objective: What is backpropagated: an objective of this package or a callable `(outputs, inputs) -> (B,)`.
        parameters: A glob or globs of the parameters to read, such as `"layer4.*"`. Frozen parameters are read too: a
            statistic is a property of the network, not of its training.
        memory: Working memory in bytes, or such as `"512MiB"`; batches are split to stay within it.
        output: Selects what the objective sees from what the model returns: a callable, or a key or index.

    Raises:
        InputError: If a glob matches no parameter, or memory cannot be read.
        ModelError: If a parameter is not finite, or was made in inference mode.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
        >>> readings = Gradiometer(model).squared_norms(torch.randn(5, 4))
        >>> readings.values.shape, readings.parameters
        (torch.Size([5, 4]), ('0.weight', '0.bias', '2.weight', '2.bias'))
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective | Loss | None = None,
        parameters: str | Sequence[str] = "*",
        *,
        memory: str | int | None = None,
        output: Output = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ModelError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        self.model = plain(model)
        self.objective: Objective | Loss = ConfoundingLabel() if objective is None else objective
        if not isinstance(self.objective, Objective) and not callable(self.objective):
            raise InputError(
                f"objective={objective!r} is no objective: give one of this package, such as ConfoundingLabel(), or a "
                "callable (outputs, inputs) -> (B,)"
            )
        self.memory = memory_in_bytes(memory)
        self._output = output
        self._globs = parameters
        self._parameters = chosen_parameters(self.model, parameters)
        check_tracked(self.model)
        self._plans: dict[Any, Plan] = {}
        self._needed: dict[Any, Need] = {}
        check_finite(self.model)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameter tensors that are read, in the order of `model.named_parameters()`."""
        return tuple(self._parameters)

    def squared_norms(
        self, x: Inputs, *, activations: bool = False, means: Collection[str] = (), shares: Collection[str] = ()
    ) -> Readings:
        """Squared L2 norm of each sample's gradient of each parameter tensor.

        Args:
            x: B samples.
            activations: Also take the squared norm of the input of each linear and convolution layer, from the same
                forward pass.
            means: Names of the weights of layers, among those of `layers`, of whose inputs the mean over all positions
                is taken too.
            shares: The same for the share of positions at which each channel is above zero.

        Returns:
            Readings with values (B, T), or (B, N, T) for an objective of N labels.

        Raises:
            InputError: If the samples are empty, not finite or malformed, or there is no such layer.
            ModelError: If the model is in train mode, mixes samples, or has outputs that the objective cannot use.
        """
        wanted = Wanted(means, shares) if activations or means or shares else None
        return self._read(x, lambda name, factor: exact(factor.squared_norms()), 2, wanted)

    def absolute_sums(self, x: Inputs) -> Readings:
        """L1 norm of each sample's gradient of each parameter tensor; see `squared_norms`."""
        return self._read(x, lambda name, factor: exact(factor.absolute_sums()), 1)

    def inner_products(self, x: Inputs, reference: Mapping[str, Tensor]) -> Readings:
        """Inner product of each sample's gradient with a reference, for each parameter tensor.

        Args:
            x: B samples.
            reference: A tensor of the parameter's shape for every parameter that is read.

        Returns:
            Readings; see `squared_norms`.

        Raises:
            InputError: If a reference is missing, unknown, or of another shape.
        """
        towards = placed_reference(reference, self._parameters)
        return self._read(x, lambda name, factor: exact(factor.inner_products(towards[name])), 1)

    def alignments(self, x: Inputs, reference: Mapping[str, Tensor]) -> tuple[Readings, Readings]:
        """Inner products with a reference, and squared norms, from one pass: how far each gradient points its way.

        Args:
            x: B samples.
            reference: As for `inner_products`.

        Returns:
            The readings of `inner_products` and those of `squared_norms`.

        Raises:
            InputError: As `inner_products`.
        """
        towards = placed_reference(reference, self._parameters)

        def both(name: str, factor: Factor) -> Tensor:
            return exact(torch.stack(factor.alignments(towards[name]), -1))

        found = self._read(x, both, (1, 2))
        # The two statistics came before the parameters.
        products, squares = found.values.movedim(-2, 0)
        return replace(found, values=products), replace(found, values=squares)

    def gradients(self, x: Inputs) -> dict[str, Tensor]:
        """The explicit gradients, for the few who need them: B times the size of the model.

        Returns:
            For each parameter (B, *shape), or (B, N, *shape) for an objective of N labels.
        """
        found = self._statistics(x, lambda name, factor: _explicit(factor), 1)
        return {name: torch.cat([part.values[name] for part in found]) for name in self._parameters}

    def class_grams(self, x: Inputs, classes: Sequence[int] | None = None) -> ClassGrams:
        """Inner products between the gradients of the logits of each sample, for each parameter tensor.

        From these follows the squared norm for any label, hard, soft or multi-hot, without another pass:
        `meter.class_grams(x).squared_norms(ContrastClasses())`. One forward pass, and a backward pass for each class,
        or of few samples one for all classes at once. The objective of the instrument plays no part.

        Args:
            x: B samples.
            classes: The logits in question; all C of them when absent. The result holds T C^2 numbers for each sample,
                so choose some if there are many.

        Returns:
            The Gram matrices (B, T, C, C).

        Raises:
            InputError: If classes are no sequence of numbers, there is no such class, or the result alone does not fit
                into the memory.
            ModelError: If the outputs are no logits (B, C).
        """
        size = samples.count(x)
        classes = None if classes is None else class_numbers(classes)
        plan = self._plan(samples.on(samples.take(x, 0, 3), self._device))
        count = len(classes) if classes is not None else plan.outputs[0] if plan.outputs else 1
        memory = _TOGETHER if self.memory is None else self.memory
        if self.memory is not None and (result := 8 * size * len(self._parameters) * count**2) > memory:
            raise InputError(
                f"Gram matrices of {count} classes for {len(self._parameters)} parameters and {size} samples take "
                f"{result:,} bytes, more than memory={self.memory:,}: give fewer samples, classes= or parameters="
            )
        results = 3 * 8 * len(self._parameters) * count**2
        step, block = self.needs(x).parts(memory, max(1, count), plan.direction_bytes, results)
        room = self._room(step)
        parts = []
        for start in range(0, size, step):
            part = samples.on(samples.take(x, start, start + step), self._device)
            parts.append(class_grams(self._subject(part), part, min(step, size - start), classes, block, room))
        values, outputs = (torch.cat([getattr(part, name) for part in parts]) for name in ("values", "outputs"))
        return replace(parts[0], outputs=outputs, values=values)

    def activation_norms(self, x: Inputs, *, means: Collection[str] = (), shares: Collection[str] = ()) -> Readings:
        """Squared L2 norm of the input of each linear and convolution layer: the forward-only control.

        Args:
            x: B samples.
            means: See `squared_norms`.
            shares: See `squared_norms`.

        Returns:
            Readings with values (B, L) and the names of the weights of those layers as parameters.

        Raises:
            InputError: If the samples are empty, not finite or malformed, or there is no such layer.
            ModelError: If the model is in train mode or returns what is not finite, or no layer is read.
        """
        check_mode(self.model)
        size, wanted = samples.count(x), Wanted(means, shares)
        outputs, kept, step = [], [], self._step(x, size)
        for start in range(0, size, step):
            part, batch = samples.on(samples.take(x, start, start + step), self._device), min(step, size - start)
            program = Program(self._plan(part).program.steps, set(self._parameters))
            with left_as_found(self.model, self._parameters.values()):
                found = LayerInputs(wanted)
                reader = Reader(self._parameters, program, batch, activations=found)
                try:
                    with closing(reader), reader:
                        raw = self._forward(part)
                except ProgramMismatch:
                    raw = self._forward(part)
                    found = one_by_one(self._parameters, self._forward, part, batch, wanted)
            outputs.append(self._select(raw).detach())
            check_outputs(outputs[-1])
            kept.append(found)
        inputs = self._gathered(kept)
        assert inputs.norms is not None
        return Readings(torch.cat(outputs), inputs.norms, inputs.layers, means=inputs.means, shares=inputs.shares)

    def layers(self, x: Inputs) -> tuple[str, ...]:
        """Names of the weights of the linear and convolution layers, in the order in which they are used (last).

        Args:
            x: One sample or more, of which the first is looked at.
        """
        samples.count(x)
        first = samples.on(samples.take(x, 0, 1), self._device)
        with (
            left_as_found(self.model, self._parameters.values()),
            as_failure_of_the_model(self.model, self._forward, first),
        ):
            return tuple(one_by_one(self._parameters, self._forward, first, 1).norms)

    def plan(self, x: Inputs | None = None) -> Plan:
        """How each statistic is computed.

        Args:
            x: Samples of the shape in question; the last shape that was read when absent.

        Returns:
            The plan; `print` shows it as a table.

        Raises:
            InputError: If nothing was read yet and no samples are given.
        """
        if x is not None:
            samples.count(x)
            return self._plan(samples.on(x, self._device))
        if not self._plans:
            raise InputError("a plan depends on the shape of the input: give plan() a few samples")
        return next(reversed(self._plans.values()))

    def needs(self, x: Inputs) -> Need:
        """How much memory a reading of samples of this shape takes, measured on a few of them.

        Args:
            x: Samples of the shape in question.

        Returns:
            The bytes for a batch of any size, and those for each sample; with an allowance for what allocators and
            kernels take besides.
        """
        samples.count(x)
        data = samples.probing(samples.on(x, self._device), MORE)
        key = self._key(data)
        if key not in self._needed:
            subject = self._subject(data)

            def read(count: int) -> object:
                part = samples.take(data, 0, count)
                return passes.statistics(subject, part, count, _everything, lambda _, each: each.squared_norms(), 2)

            read(FEW)  # what is made once is no working memory
            self._needed[key] = Need.measured(read, self._parameters.values(), self._device)
        return self._needed[key]

    def _key(self, x: Inputs) -> Any:
        return samples.signature(x), torch.is_autocast_enabled(self._device.type)

    @property
    def _device(self) -> torch.device:
        return next(iter(self._parameters.values())).device

    def _read(self, x: Inputs, reduce: Reduce, power: Power, wanted: Wanted | None = None) -> Readings:
        found = self._statistics(x, reduce, power, wanted)
        values = torch.cat([torch.stack([part.values[name] for name in self._parameters], -1) for part in found])
        outputs = torch.cat([part.outputs for part in found])
        inputs = self._gathered([part.inputs for part in found if part.inputs is not None])
        return Readings(outputs, values, self.parameters, inputs.norms, inputs.layers, inputs.means, inputs.shares)

    def _gathered(self, kept: Sequence[LayerInputs]) -> Gathered:
        """What was kept of the inputs of the layers."""
        if kept and not kept[0].norms and (hint := scripted(self.model)):
            raise ModelError(f"the model shows no linear or convolution layer to read the inputs of{hint}")
        return gathered(self._parameters, kept)

    def _statistics(self, x: Inputs, reduce: Reduce, power: Power, wanted: Wanted | None = None) -> list[Found]:
        """One statistic of every parameter, for the parts of a batch that fit into memory."""
        size = samples.count(x)
        step = self._step(x, size)
        room = self._room(step)
        found = []
        for start in range(0, size, step):
            part, batch = samples.on(samples.take(x, start, start + step), self._device), min(step, size - start)
            subject = self._subject(part, alone=batch == 1 and self._lone(part))
            found.append(passes.statistics(subject, part, batch, self.objective, reduce, power, wanted, room))
        return found

    def _subject(self, x: Inputs, *, alone: bool = False) -> Subject:
        program = self._plan(x).program
        return Subject(self.model, self._parameters, self._forward, self._select, program, alone)

    def _lone(self, x: Inputs) -> bool:
        """Whether one sample is read by a backward pass of its own, which holds all of its gradients for a moment."""
        if torch.is_autocast_enabled(self._device.type) or not TYPES.issuperset(
            parameter.dtype for parameter in self._parameters.values()
        ):
            return False
        if self.memory is None:
            return True
        held = sum(parameter.numel() * parameter.element_size() for parameter in self._parameters.values())
        return self.needs(x).of(1) + held <= self.memory

    def _plan(self, x: Inputs) -> Plan:
        if any(found_at(self.model, name) is not parameter for name, parameter in self._parameters.items()):
            self._parameters = chosen_parameters(self.model, self._globs)
            self._plans.clear()
            self._needed.clear()
        key = self._key(x)
        if key not in self._plans:
            check_mode(self.model)
            check_finite(self.model)
            check_tracked(self.model)
            with left_as_found(self.model, self._parameters.values()):
                self._plans[key] = make_plan(self.model, self._parameters, self._forward, self._select, x)
        return self._plans[key]

    def _step(self, x: Inputs, size: int) -> int:
        """How many of so many samples are read at a time, so that the working memory is kept."""
        return size if self.memory is None else self.needs(x).batch(self.memory)

    def _room(self, step: int) -> int:
        """Up to how many samples of all labels may be sent back at once, where so many are read at a time."""
        return _STACKED if self.memory is None else min(_STACKED, step)

    def _forward(self, x: Any) -> Any:
        x = samples.copied(x)  # a model may overwrite its input
        with uncompiled(self.model), uncached(self.model), ordered(self.model, samples.rows(x)):
            if isinstance(x, Mapping):
                return self.model(**x)
            return self.model(*x) if isinstance(x, tuple | list) else self.model(x)

    def _select(self, raw: Any) -> Tensor:
        """What the objective sees of what the model returned."""
        raw = selected(raw, self._output)
        if not isinstance(raw, Tensor):
            raise ModelError(
                f"the model returns {kind_of(raw)}, not a tensor; "
                "give output= a key, an index or a callable that selects the tensor"
            )
        return raw


def _everything(outputs: Tensor, _: Any) -> Tensor:
    """An objective for any outputs."""
    return outputs.flatten(1).sum(1)


def _explicit(factor: Factor) -> Tensor:
    return torch.cat([wide(factor.gradients(*bounds)) for bounds in factor.chunks()])
