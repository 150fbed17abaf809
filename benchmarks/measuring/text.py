"""A text classifier, for the benchmark alone: recurrent layers read a sequence of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Number of different tokens, and of tokens in a text.
VOCABULARY, LENGTH = 8192, 64


class GRUClassifier(nn.Module):
    """An embedding, a gated recurrent unit in both directions, and a linear layer on its mean: 1.4 million parameters.

    Args:
        classes: Number of classes C.
        width: Length of an embedding, and of the hidden state of each direction.
    """

    def __init__(self, classes: int = 10, width: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.recurrent = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of tokens (B, L)."""
        states, _ = self.recurrent(self.embedding(x))
        logits: Tensor = self.head(states.mean(1))
        return logits


def tokens(batch: int, generator: torch.Generator) -> Tensor:
    """A batch of random texts, int64 (batch, `LENGTH`)."""
    return torch.randint(0, VOCABULARY, (batch, LENGTH), generator=generator)
