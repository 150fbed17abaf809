"""Embeddings, recurrent networks, attention and transformers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.specimens.record import BATCH, Draw, Inputs, Specimen, images, tagged, tokens

VOCABULARY = 6


class Pooled(nn.Module):
    """Embeds tokens, runs a body, weights the positions differently, classifies."""

    def __init__(self, embedding: nn.Module, body: nn.Module, features: int, classes: int = 4) -> None:
        super().__init__()
        self.embedding = embedding
        self.body = body
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S) token ids to (B, classes)."""
        return self.head(weighted(self.body(self.embedding(x))))


def weighted(x: Tensor, dimension: int = 1) -> Tensor:
    """Sum over positions with different weights, so that positions cannot be mixed up unnoticed."""
    weights = torch.linspace(0.4, 1.3, x.shape[dimension]).to(x)
    return torch.tensordot(x, weights, dims=([dimension], [0]))


class Squash(nn.Module):
    """Linear and tanh."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return torch.tanh(self.layer(x))


class EmbeddedTwice(nn.Module):
    """One table looked up at the tokens and at their reverse, with different fates."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, 5, padding_idx=0)
        self.mix = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S) to (B, 4)."""
        both = torch.cat([torch.tanh(self.table(x)), self.table(x.flip(1)) * 0.5], dim=2)
        return self.mix(weighted(both))


class Tied(nn.Module):
    """A language model whose decoder shares the table of its embedding; the logits of the last position."""

    def __init__(self, through_module: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, 5)
        self.body = Squash(5)
        self.decoder = nn.Linear(5, VOCABULARY) if through_module else None
        if self.decoder is not None:
            self.decoder.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        """(B, S) to (B, vocabulary)."""
        h = weighted(self.body(self.table(x)))
        return F.linear(h, self.table.weight) if self.decoder is None else self.decoder(h)


class Bags(nn.Module):
    """Embedding bags: mean of rows, weighted sum, and a flat list with offsets that hides the batch."""

    def __init__(self, mode: str, flat: bool = False) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(VOCABULARY, 5, mode=mode)
        self.head = nn.Linear(5, 4)
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        """(B, S) to (B, 4)."""
        weights = torch.linspace(0.5, 2.0, x.shape[1]).to(self.head.weight).expand(x.shape)
        weights = weights.contiguous() if self.bag.mode == "sum" else None
        if self.flat:
            offsets = torch.arange(0, x.numel(), x.shape[1], device=x.device)
            flat_weights = None if weights is None else weights.flatten()
            return self.head(torch.tanh(self.bag(x.flatten(), offsets, per_sample_weights=flat_weights)))
        return self.head(torch.tanh(self.bag(x, per_sample_weights=weights)))


class Attends(nn.Module):
    """Attention between a projection and a head, in either layout."""

    def __init__(self, batch_first: bool = True, features: int = 8, **options: Any) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.attention = nn.MultiheadAttention(features, 2, batch_first=batch_first, **options)
        self.head = nn.Linear(features, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, F) to (B, 4)."""
        x = x if self.batch_first else x.transpose(0, 1)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(weighted(x, 1 if self.batch_first else 0))


class CrossAttends(nn.Module):
    """Queries attend to keys and values of other widths; the attention weights are used too."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)
        self.head = nn.Linear(4, 4)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, 3, 4), (B, 5, 6), (B, 5, 2) to (B, 4)."""
        mixed, weights = self.attention(query=query, key=key, value=value)
        return self.head(weighted(torch.tanh(mixed))) + weights.square().sum((1, 2)).unsqueeze(1)


class MaskedAttends(nn.Module):
    """Attention with a causal mask and with padding of a different length for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, 4, padding_idx=0)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S) to (B, 4); token 0 is padding, never in front."""
        padding = x == 0
        padding[:, 0] = False
        h = self.table(x)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        h = h + self.attention(h, h, h, key_padding_mask=padding, attn_mask=causal, need_weights=False)[0]
        return self.head(weighted(h))


class OwnAttention(nn.Module):
    """Attention spelled out: one fused projection, scaled dot product, a learned bias per head and offset."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.projection = nn.Linear(4, 12, bias=False)
        self.offsets = nn.Parameter(torch.randn(2, length, length) * 0.3)
        self.out = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, 4) to (B, 4)."""
        q, k, v = self.projection(x).unflatten(2, (3, 2, 2)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.offsets)
        return weighted(self.out(mixed.transpose(1, 2).flatten(2)))


class Encoder(nn.Module):
    """nn.TransformerEncoder in either layout, behind learned positions looked up once for the whole batch."""

    def __init__(self, batch_first: bool, length: int, norm_first: bool = False) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.table = nn.Embedding(VOCABULARY, 4)
        self.positions = nn.Embedding(length, 4)
        layer = nn.TransformerEncoderLayer(
            4, 2, dim_feedforward=6, dropout=0.3, batch_first=batch_first, norm_first=norm_first
        )
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(4), enable_nested_tensor=False)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S) to (B, 4)."""
        h = self.table(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        h = self.encoder(h) if self.batch_first else self.encoder(h.transpose(0, 1)).transpose(0, 1)
        return self.head(weighted(h))


class Translates(nn.Module):
    """nn.Transformer: encoder, decoder, cross attention."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Transformer(4, 2, 1, 1, 6, batch_first=True, activation="gelu")
        self.head = nn.Linear(4, 4)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """(B, S, 4), (B, T, 4) to (B, 4)."""
        return self.head(weighted(self.transformer(source, target)))


class Recurs(nn.Module):
    """A recurrent module in either layout; outputs and final states are both used."""

    def __init__(self, kind: str, width: int, batch_first: bool, **options: Any) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.recurrent = getattr(nn, kind)(4, 3, batch_first=batch_first, **options)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, 4) to (B, 4)."""
        out, state = self.recurrent(x if self.batch_first else x.transpose(0, 1))
        final = state[-1] if isinstance(state, tuple) else state
        pooled = weighted(out, 1 if self.batch_first else 0)
        return self.head(pooled) + final.square().sum((0, 2)).unsqueeze(1)


class CellLoop(nn.Module):
    """A recurrent cell called once per step, its state starting from a learned vector."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.cell = getattr(nn, kind)(4, 3)
        self.start = nn.Parameter(torch.randn(3) * 0.3)
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, 4) to (B, 4)."""
        hidden = self.start.expand(len(x), -1)
        state: Any = (hidden, hidden * 0.5) if isinstance(self.cell, nn.LSTMCell) else hidden
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class TextClassifier(nn.Module):
    """Embedding, bidirectional GRU, last states of both directions, dropout, head."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, 4, padding_idx=0)
        self.recurrent = nn.GRU(4, 3, bidirectional=True, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.4), nn.Linear(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, S) to (B, 4)."""
        _, state = self.recurrent(self.table(x))
        return self.head(state.transpose(0, 1).flatten(1))


class PackedClassifier(nn.Module):
    """A GRU on packed sequences: the rows of several samples are sorted and interleaved."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, 4)
        self.recurrent = nn.GRU(4, 3, batch_first=True)
        self.head = nn.Linear(3, 4)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, S), (B,) to (B, 4)."""
        packed = pack_padded_sequence(self.table(ids), lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=ids.shape[1])
        return self.head(weighted(out))


def packed_inputs(batch: int, generator: torch.Generator) -> Inputs:
    """Token ids and lengths from 1 to 5."""
    ids = torch.randint(VOCABULARY, (batch, 5), generator=generator)
    return {"ids": ids, "lengths": torch.randint(1, 6, (batch,), generator=generator)}


def several(*shapes: tuple[int, ...]) -> Draw:
    """Draws a tuple of standard normal tensors."""
    return lambda batch, generator: tuple(torch.randn(batch, *shape, generator=generator) for shape in shapes)


def embedded(name: str, length: int = 7, **options: Any) -> Specimen:
    """An embedding with options before a squash."""
    return Specimen(
        name, lambda: Pooled(nn.Embedding(VOCABULARY, 5, **options), Squash(5), 5), tokens(length, VOCABULARY)
    )


def recurrent(name: str, kind: str, width: int, batch_first: bool, length: int = 5, **options: Any) -> Specimen:
    """A recurrent network on sequences of four features."""
    return Specimen(name, lambda: Recurs(kind, width, batch_first, **options), images(length, 4))


SEQUENCES = (
    embedded("embedding"),
    embedded("embedding_padding", padding_idx=2),
    embedded("embedding_as_long_as_the_batch", length=BATCH),
    embedded("embedding_scaled_by_frequency", scale_grad_by_freq=True),
    embedded("embedding_sparse", sparse=True),
    Specimen("embedding_used_twice", EmbeddedTwice, tokens(5, VOCABULARY)),
    Specimen("embedding_tied_to_decoder_module", lambda: Tied(through_module=True), tokens(5, VOCABULARY)),
    Specimen("embedding_tied_to_decoder_function", lambda: Tied(through_module=False), tokens(5, VOCABULARY)),
    Specimen("embedding_bag_mean", lambda: Bags("mean"), tokens(5, VOCABULARY)),
    Specimen("embedding_bag_weighted_sum", lambda: Bags("sum"), tokens(5, VOCABULARY)),
    Specimen("embedding_bag_max", lambda: Bags("max"), tokens(5, VOCABULARY)),
    Specimen("embedding_bag_offsets", lambda: Bags("sum", flat=True), tokens(5, VOCABULARY), tags=tagged("may_refuse")),
    Specimen("attention_batch_first", Attends, images(5, 8)),
    Specimen("attention_sequence_first", lambda: Attends(batch_first=False), images(5, 8)),
    Specimen("attention_sequence_first_square", lambda: Attends(batch_first=False), images(BATCH, 8)),
    Specimen("attention_without_bias", lambda: Attends(bias=False), images(5, 8)),
    Specimen("attention_with_bias_rows", lambda: Attends(add_bias_kv=True, add_zero_attn=True), images(4, 8)),
    Specimen("attention_cross", CrossAttends, several((3, 4), (5, 4), (5, 4))),
    Specimen("attention_other_widths", lambda: CrossAttends(kdim=6, vdim=2), several((3, 4), (5, 6), (5, 2))),
    Specimen("attention_masked", MaskedAttends, tokens(6, VOCABULARY)),
    Specimen("attention_by_hand", lambda: OwnAttention(5), images(5, 4)),
    Specimen("attention_by_hand_square", lambda: OwnAttention(BATCH), images(BATCH, 4)),
    Specimen("transformer_encoder_batch_first", lambda: Encoder(True, 5), tokens(5, VOCABULARY)),
    Specimen("transformer_encoder_sequence_first", lambda: Encoder(False, 5), tokens(5, VOCABULARY)),
    Specimen("transformer_encoder_square", lambda: Encoder(False, BATCH, norm_first=True), tokens(BATCH, VOCABULARY)),
    Specimen("transformer_encoder_decoder", Translates, several((4, 4), (3, 4))),
    recurrent("lstm", "LSTM", 3, batch_first=True),
    recurrent("lstm_two_layers_both_ways", "LSTM", 6, batch_first=True, num_layers=2, bidirectional=True, dropout=0.2),
    recurrent("lstm_projected_sequence_first", "LSTM", 2, batch_first=False, proj_size=2),
    recurrent("gru_sequence_first_square", "GRU", 3, batch_first=False, length=BATCH),
    recurrent("gru_without_bias", "GRU", 3, batch_first=True, bias=False),
    recurrent("gru_both_ways", "GRU", 6, batch_first=True, bidirectional=True),
    recurrent("rnn_tanh", "RNN", 3, batch_first=True),
    recurrent("rnn_relu_two_layers", "RNN", 3, batch_first=False, num_layers=2, nonlinearity="relu"),
    Specimen("lstm_cell_loop", lambda: CellLoop("LSTMCell"), images(4, 4)),
    Specimen("gru_cell_loop", lambda: CellLoop("GRUCell"), images(BATCH, 4)),
    Specimen("gru_text_classifier", TextClassifier, tokens(6, VOCABULARY)),
    Specimen("gru_packed_sequences", PackedClassifier, packed_inputs, tags=tagged("may_refuse")),
)
