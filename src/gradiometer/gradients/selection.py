"""What of that which a model returns is meant: `output=` of the instrument and of detectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradiometer.errors import ModelError

Output = Callable[[Any], Tensor] | str | int | None
"""Where the logits are in what a model returns: a function, a key, a position, or the thing itself."""


@dataclass(frozen=True)
class OneLogit:
    """The one logit z of a binary classifier, as the two logits (0, z) of a classifier with two classes.

    Their softmax gives the second class the probability `sigmoid(z)`, so that predictions, confidences and losses are
    those of the classifier. Detectors that need the linear layer behind the logits refuse it.

    Attributes:
        output: Where the logit is in what the model returns, a key or a position; None for the thing itself.

    Raises:
        ModelError: What is there is no tensor of one number for each sample, (B,) or (B, 1).

    Example:
        >>> OneLogit()(torch.tensor([[2.0], [-1.0]]))
        tensor([[ 0.,  2.],
                [ 0., -1.]])
    """

    output: str | int | None = None

    def __call__(self, returned: Any) -> Tensor:
        """Two logits (B, 2) for each sample of what the model returned."""
        logit = selected(returned, self.output)
        if not isinstance(logit, Tensor) or logit.ndim not in (1, 2) or logit.shape[1:].numel() != 1:
            found = tuple(logit.shape) if isinstance(logit, Tensor) else kind_of(logit)
            raise ModelError(
                f"OneLogit needs one logit for each sample, (B,) or (B, 1), got {found}; leave it out where there are "
                "more, or give it the key or position of the logit"
            )
        logit = logit.reshape(-1, 1)
        return torch.cat([torch.zeros_like(logit), logit], 1)


def selected(returned: Any, output: Output) -> Any:
    """The part of what a model returned that `output` names.

    Raises:
        ModelError: There is no such part.
    """
    if output is None:
        return returned
    if callable(output):
        return output(returned)
    try:
        return returned[output]
    except (KeyError, IndexError, TypeError) as error:
        raise ModelError(
            f"output={output!r} is not in what the model returns, {kind_of(returned)}; name what is there"
        ) from error


def kind_of(returned: Any) -> str:
    """What a model returned, in words: its type, and the keys if it has any."""
    holding = f" with {', '.join(map(repr, returned))}" if isinstance(returned, Mapping) and returned else ""
    return f"a {type(returned).__name__}{holding}"


def one_logit_hint(outputs: Tensor) -> str:
    """What to do about outputs that look like the single logit of a binary classifier; empty for others."""
    single = outputs.ndim == 1 or (outputs.ndim == 2 and outputs.shape[1] == 1)
    return "; for the one logit of a binary classifier give output=gradiometer.OneLogit()" if single else ""
