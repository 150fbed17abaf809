"""Networks that are awkward in how they are wired: folded batches, odd inputs and outputs, foreign autograd code."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.specimens.record import BATCH, Inputs, Specimen, images, tagged
from tests.specimens.sequences import several, weighted


class Frames(nn.Module):
    """Folds the frames of a clip into the batch and back, sample by sample or frame by frame."""

    def __init__(self, frame_major: bool) -> None:
        super().__init__()
        self.frame_major = frame_major
        self.convolution = nn.Conv2d(2, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.features = nn.Linear(3, 5)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, 2, H, W) to (B, 4)."""
        batch, frames = x.shape[:2]
        x = x.transpose(0, 1) if self.frame_major else x
        h = torch.relu(self.norm(self.convolution(x.reshape(-1, *x.shape[2:]))))
        h = torch.tanh(self.features(h.mean((2, 3))))
        h = h.view(frames, batch, -1).transpose(0, 1) if self.frame_major else h.view(batch, frames, -1)
        return self.head(weighted(h))


class Windows(nn.Module):
    """Attention in windows that are folded into the batch, B * nW of them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4, 4, 4), channels last, to (B, 4)."""
        batch = len(x)
        windows = x.view(batch, 2, 2, 2, 2, 4).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 4)
        h = self.norm(windows + self.attention(windows, windows, windows, need_weights=False)[0])
        h = h.view(batch, 2, 2, 2, 2, 4).permute(0, 1, 3, 2, 4, 5).reshape(batch, 16, 4)
        return self.head(weighted(h))


class Siamese(nn.Module):
    """Two pictures per sample, concatenated along the batch for one pass through the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4, 5))
        self.head = nn.Linear(5, 4)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """(B, 2, 4, 4) twice to (B, 4)."""
        one, two = self.encoder(torch.cat([left, right])).chunk(2)
        return self.head(torch.tanh(one) * two)


class Repeated(nn.Module):
    """Repeats every sample, treats the copies differently, and averages."""

    def __init__(self, interleaved: bool) -> None:
        super().__init__()
        self.interleaved = interleaved
        self.layer = nn.Linear(5, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        batch, shifts = len(x), torch.tensor([0.0, 0.5]).to(x)
        copies = x.repeat_interleave(2, 0) if self.interleaved else x.repeat(2, 1)
        shift = shifts.repeat(batch) if self.interleaved else shifts.repeat_interleave(batch)
        h = self.head(torch.tanh(self.layer(copies + shift.unsqueeze(1))))
        return h.view(batch, 2, 4).mean(1) if self.interleaved else h.view(2, batch, 4).mean(0)


class Experts(nn.Module):
    """A mixture of experts: each expert is called with the rows that chose it, however many."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(5, 3)
        nn.init.normal_(self.gate.weight, std=2.0)
        self.experts = nn.ModuleList(nn.Linear(5, 6) for _ in range(3))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        weight, choice = self.gate(x).softmax(1).max(1)
        h = x.new_zeros(len(x), 6)
        for number, expert in enumerate(self.experts):
            rows = (choice == number).nonzero().flatten()
            h = h.index_add(0, rows, torch.tanh(expert(x[rows])) * weight[rows].unsqueeze(1))
        return self.head(h)


class ClassToken(nn.Module):
    """A small vision transformer: patches, class token, position table, pre-norm block."""

    def __init__(self, raw: bool = True) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 4, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.positions = nn.Parameter(torch.randn(1, 5, 4) * 0.5)
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 4, 4) to (B, 4)."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        h = self.norm(x)
        x = x + self.attention(h, h, h)[0]
        return self.head((x + self.mlp(x))[:, 0])


class DictOut(nn.Module):
    """Returns a dict with logits and features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(5, 6)
        self.head = nn.Linear(6, 4)
        self.side = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 5) to three entries."""
        features = torch.tanh(self.body(x))
        return {"features": features, "logits": self.head(features), "side": self.side(features)}


class TupleOut(DictOut):
    """Returns a tuple."""

    def forward(self, x: Tensor) -> Any:
        """(B, 5) to (features, logits, None)."""
        out = super().forward(x)
        return out["features"], out["logits"], None


class Answer(NamedTuple):
    """Outputs with names."""

    loss: Tensor | None
    logits: Tensor


class NamedOut(DictOut):
    """Returns a named tuple."""

    def forward(self, x: Tensor) -> Any:
        """(B, 5) to an Answer."""
        return Answer(None, super().forward(x)["logits"])


class TwoInputs(nn.Module):
    """A picture and a vector of another type, by position or by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = nn.Conv2d(1, 3, 3)
        self.kind = nn.Embedding(4, 3)
        self.head = nn.Linear(3, 4)

    def forward(self, picture: Tensor, kind: Tensor) -> Tensor:
        """(B, 1, 5, 5), (B,) to (B, 4)."""
        return self.head(torch.tanh(self.picture(picture).mean((2, 3)) + self.kind(kind)))


class Scripted(nn.Module):
    """A sub-module compiled by torch.jit.script."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.jit.script(nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6)))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        return self.head(torch.tanh(self.body(x)))


class Ramp(torch.autograd.Function):
    """`weight * x**3` with a backward pass of its own, and no rule for vmap."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """Saves both."""
        ctx.save_for_backward(x, weight)
        return weight * x**3

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of the weight is summed over the batch here."""
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        return gradient * weight * 3 * x**2, (gradient * x**3).sum(0)


class CustomFunction(nn.Module):
    """Uses a custom autograd function."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.weight = nn.Parameter(torch.randn(6))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        return self.head(Ramp.apply(torch.tanh(self.first(x)), self.weight))


class Checkpointed(nn.Module):
    """Recomputes a block in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(5, 6)
        self.block = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        return self.head(checkpoint(self.block, self.stem(x), use_reentrant=False))


class TangledGraph(nn.Module):
    """Takes a gradient inside of its forward: logits depend on the slope of an energy (a learned descent step)."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Linear(5, 6)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        with torch.enable_grad():
            point = x.detach().clone().requires_grad_(True)
            slope = torch.autograd.grad(torch.tanh(self.energy(point)).sum(), point, create_graph=True)[0]
        return self.head(x - 0.3 * slope)


class OwnMethod(nn.Module):
    """Calls a method of its child that is not forward; the child's layers still run."""

    def __init__(self) -> None:
        super().__init__()
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(6, 5, cutoffs=[2], div_value=2.0)
        self.body = nn.Linear(5, 6)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 5)."""
        return self.softmax.log_prob(torch.tanh(self.body(x)))


class ManySteps(nn.Module):
    """Runs as many steps as a learned, input-free counter says, remembers the trace in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.GRUCell(5, 5)
        self.head = nn.Linear(5, 4)
        self.register_buffer("steps", torch.tensor(3))
        self.trace: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        self.trace = [x]
        for _ in range(int(self.steps)):
            self.trace.append(self.step(x, self.trace[-1]))
        return self.head(torch.stack(self.trace[1:], 0).mean(0))


class TransposedBatch(nn.Module):
    """Works with the batch in the last dimension, with raw parameters and one-dimensional convolutions by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 5) * 0.4)
        self.bias = nn.Parameter(torch.randn(6, 1) * 0.4)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        return self.head(torch.tanh(self.weight @ x.T + self.bias).T)


class Wrapped(nn.Module):
    """A module that hands everything to another one, so that every name gets a prefix."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Sequential(nn.Linear(5, 6), nn.Tanh())

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """Hands over."""
        return F.dropout(self.module(*arguments, **options), 0.5, self.training)


def picture_and_kind(batch: int, generator: torch.Generator) -> Inputs:
    """A tuple of a picture and a class id."""
    return torch.randn(batch, 1, 5, 5, generator=generator), torch.randint(4, (batch,), generator=generator)


def by_keyword(batch: int, generator: torch.Generator) -> Inputs:
    """The same, by keyword and in the other order."""
    picture, kind = picture_and_kind(batch, generator)
    return {"kind": kind, "picture": picture}


PLUMBING = (
    Specimen("frames_folded_sample_major", lambda: Frames(frame_major=False), images(4, 2, 4, 4)),
    Specimen(
        "frames_folded_frame_major", lambda: Frames(frame_major=True), images(4, 2, 4, 4), tags=tagged("may_refuse")
    ),
    Specimen("frames_folded_square", lambda: Frames(frame_major=False), images(BATCH, 2, 4, 4)),
    Specimen(
        "frames_folded_frame_major_square",
        lambda: Frames(frame_major=True),
        images(BATCH, 2, 4, 4),
        tags=tagged("may_refuse"),
    ),
    Specimen("window_attention_folded", Windows, images(4, 4, 4)),
    Specimen("siamese_concatenated", Siamese, several((2, 4, 4), (2, 4, 4)), tags=tagged("may_refuse")),
    Specimen("samples_repeated_interleaved", lambda: Repeated(interleaved=True), images(5)),
    Specimen("samples_repeated_tiled", lambda: Repeated(interleaved=False), images(5), tags=tagged("may_refuse")),
    Specimen("mixture_of_experts", Experts, images(5), tags=tagged("may_refuse")),
    Specimen("class_token_and_positions", ClassToken, images(1, 4, 4)),
    Specimen("dict_output", DictOut, images(5), output="logits"),
    Specimen("tuple_output", TupleOut, images(5), output=1),
    Specimen("named_tuple_output", NamedOut, images(5), output=lambda answer: answer.logits),
    Specimen("tuple_of_inputs", TwoInputs, picture_and_kind),
    Specimen("dict_of_inputs", TwoInputs, by_keyword),
    Specimen("scripted_submodule", Scripted, images(5)),
    Specimen("custom_autograd_function", CustomFunction, images(5)),
    Specimen("checkpointed_block", Checkpointed, images(5)),
    Specimen("gradient_inside_the_forward", TangledGraph, images(5), tags=tagged("may_refuse")),
    Specimen("adaptive_softmax", OwnMethod, images(5)),
    Specimen("loop_over_steps", ManySteps, images(5)),
    Specimen("batch_in_the_last_dimension", TransposedBatch, images(5), tags=tagged("may_refuse")),
    Specimen("wrapped", lambda: nn.Sequential(Wrapped(), nn.Linear(6, 4)), images(5)),
)
