"""Recurrent layers, unrolled into linear layers.

A fused recurrent kernel hides the gradients of its gates. The same layer written as linear operations, one for all
inputs and one for each step of the state, shows them, and the rule for linear layers does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

State = tuple[Tensor, ...]
Step = Callable[[Tensor, Tensor, State], State]


def _lstm_step(inputs: Tensor, hidden: Tensor, state: State) -> State:
    entry, forget, new, output = (inputs + hidden).chunk(4, -1)
    cell = forget.sigmoid() * state[1] + entry.sigmoid() * new.tanh()
    return output.sigmoid() * cell.tanh(), cell


def _gru_step(inputs: Tensor, hidden: Tensor, state: State) -> State:
    reset_in, update_in, new_in = inputs.chunk(3, -1)
    reset_hidden, update_hidden, new_hidden = hidden.chunk(3, -1)
    update = (update_in + update_hidden).sigmoid()
    new = (new_in + (reset_in + reset_hidden).sigmoid() * new_hidden).tanh()
    return ((1 - update) * new + update * state[0],)


def _tanh_step(inputs: Tensor, hidden: Tensor, _: State) -> State:
    return ((inputs + hidden).tanh(),)


def _relu_step(inputs: Tensor, hidden: Tensor, _: State) -> State:
    return ((inputs + hidden).relu(),)


def _direction(
    step: Step, inputs: Tensor, state: State, weights: Sequence[Tensor], biases: bool, backwards: bool
) -> tuple[Tensor, State]:
    """One layer in one direction over (S, B, I)."""
    bias_in, bias_hidden = (weights[2], weights[3]) if biases else (None, None)
    projection = weights[4 if biases else 2] if len(weights) == (5 if biases else 3) else None
    mapped = linear(inputs, weights[0], bias_in)
    outputs: list[Tensor] = []
    for position in reversed(range(len(inputs))) if backwards else range(len(inputs)):
        state = step(mapped[position], linear(state[0], weights[1], bias_hidden), state)
        if projection is not None:
            state = (linear(state[0], projection), *state[1:])
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backwards else outputs), state


def _unrolled(step: Step) -> Callable[..., Any]:
    """The function of torch with the same arguments as its fused kernel for sequences that are not packed."""

    def run(
        inputs: Tensor,
        initial: Any,
        weights: Sequence[Tensor],
        biases: bool,
        layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Any:
        states: State = (initial,) if isinstance(initial, Tensor) else tuple(initial)
        directions = 2 if bidirectional else 1
        each = len(weights) // (layers * directions)
        sequence = inputs.transpose(0, 1) if batch_first else inputs
        finals: list[State] = []
        for layer in range(layers):
            outputs = []
            for direction in range(directions):
                number = layer * directions + direction
                own = weights[number * each : (number + 1) * each]
                start = tuple(state[number] for state in states)
                output, final = _direction(step, sequence, start, own, biases, direction == 1)
                outputs.append(output)
                finals.append(final)
            sequence = torch.cat(outputs, -1) if directions == 2 else outputs[0]
            if dropout and train and layer + 1 < layers:
                sequence = torch.nn.functional.dropout(sequence, dropout, True)
        ends = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
        return (sequence.transpose(0, 1) if batch_first else sequence, *ends)

    return run


def _cell(step: Step) -> Callable[..., Any]:
    """The function of torch for a single step."""

    def run(
        inputs: Tensor, state: Any, weight_in: Tensor, weight: Tensor, bias_in: Any = None, bias: Any = None
    ) -> Any:
        states: State = (state,) if isinstance(state, Tensor) else tuple(state)
        after = step(linear(inputs, weight_in, bias_in), linear(states[0], weight, bias), states)
        return after if len(after) > 1 else after[0]

    return run


_SEQUENCES: dict[Any, Callable[..., Any]] = {
    torch.lstm: _unrolled(_lstm_step),
    torch.gru: _unrolled(_gru_step),
    torch.rnn_tanh: _unrolled(_tanh_step),
    torch.rnn_relu: _unrolled(_relu_step),
}
_CELLS: dict[Any, Callable[..., Any]] = {
    torch.lstm_cell: _cell(_lstm_step),
    torch.gru_cell: _cell(_gru_step),
    torch.rnn_tanh_cell: _cell(_tanh_step),
    torch.rnn_relu_cell: _cell(_relu_step),
}


def unrolled(function: Any, arguments: Sequence[Any]) -> Callable[..., Any] | None:
    """The unrolled form of a recurrent kernel, or None: not recurrent, or over packed sequences.

    Args:
        function: The torch function.
        arguments: Its positional arguments.
    """
    if function in _SEQUENCES and len(arguments) == 9 and isinstance(arguments[2], list | tuple):
        packed = isinstance(arguments[1], Tensor) and arguments[1].dtype == torch.int64
        return None if packed else _SEQUENCES[function]
    return _CELLS.get(function)
