"""Parameters that are raw, shared, tied, frozen, unused, or used far from the module that owns them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.specimens.record import BATCH, Specimen, images, tagged
from tests.specimens.sequences import weighted


class Scaled(nn.Module):
    """`self.scale * x + self.shift` between two layers, with parameters of shapes (F,), (1, F) and ()."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.scale = nn.Parameter(torch.rand(6) + 0.5)
        self.shift = nn.Parameter(torch.randn(1, 6) * 0.3)
        self.temperature = nn.Parameter(torch.tensor(0.7))
        self.last = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        return self.last(torch.tanh(self.scale * self.first(x) + self.shift)) * self.temperature.exp()


class ParentAdds(nn.Module):
    """The parent adds a child's raw parameter, and its own."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Module()
        self.child.offset = nn.Parameter(torch.randn(4, 5) * 0.3)
        self.gain = nn.ParameterDict({"a": nn.Parameter(torch.randn(5)), "b": nn.Parameter(torch.randn(4, 1))})
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4, 5) to (B, 4)."""
        return self.head(torch.sin((x + self.child.offset) * self.gain["a"] + self.gain["b"]).sum(1))


class SquareTable(nn.Module):
    """A raw parameter of shape (S, F) with S as long as the batch, added to every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(BATCH, 5) * 0.3)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, 5) to (B, 4)."""
        return self.head(weighted(torch.sin(x + self.table)))


class PositionsOfTheBatch(nn.Module):
    """A layer that never sees the batch: it maps positions, and their number is that of the batch."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.positions = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 5))
        self.head = nn.Linear(5, 4)
        self.length = length

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, 5) to (B, 4)."""
        where = torch.linspace(-1, 1, self.length).to(x).unsqueeze(1)
        return self.head(weighted(torch.sin(x * self.positions(where))))


class UsedTwice(nn.Module):
    """One layer three times in a row, with inputs of different size."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(6, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 6) to (B, 4)."""
        rows = torch.tanh(self.shared(torch.stack([x, x.roll(1, 1)], dim=1)))
        h = torch.tanh(self.shared(weighted(rows)))
        return self.head(self.shared(h) + x)


class TwoResolutions(nn.Module):
    """One convolution at three resolutions (a feature pyramid head)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, 8, 8) to (B, 4)."""
        x = torch.tanh(self.stem(x))
        total: Tensor = self.shared(x).square().mean((2, 3))
        for size in (2, 4):
            total = total - torch.tanh(self.shared(F.avg_pool2d(x, size))).amax((2, 3)) * size
        return self.head(total)


class SharedWeights(nn.Module):
    """Two layers that own the same weight, one of them under another bias; and a transposed use."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        h = torch.tanh(self.second(torch.tanh(self.first(x))))
        return self.head(h @ self.first.weight)


class SharedAcrossKinds(nn.Module):
    """A convolution's weight used again as a transposed convolution (a tied auto-encoder)."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False)
        self.decode = nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1)
        self.decode.weight = self.encode.weight
        self.head = nn.Linear(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, 6, 6) to (B, 4)."""
        restored = self.decode(torch.tanh(self.encode(x)))
        return self.head(((restored - x) * x.sin()).mean((2, 3)))


class OutsideItsModule(nn.Module):
    """Parameters of layers that are never called, used through functions; and one used inside and outside."""

    def __init__(self) -> None:
        super().__init__()
        self.never_called = nn.Linear(5, 6)
        self.both = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        h = torch.tanh(F.linear(x, self.never_called.weight, self.never_called.bias))
        return self.both(h) + F.linear(h.square(), self.both.weight) + self.both.bias.square().sum()


class MatrixProducts(nn.Module):
    """Einsum, matmul from both sides, baddbmm and addmm with raw parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.cube = nn.Parameter(torch.randn(2, 5, 3) * 0.4)
        self.left = nn.Parameter(torch.randn(4, 4) * 0.4)
        self.stack = nn.Parameter(torch.randn(1, 6, 4) * 0.4)
        self.bias = nn.Parameter(torch.randn(4) * 0.4)
        self.last = nn.Parameter(torch.randn(4, 4) * 0.4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4, 5) to (B, 4)."""
        h = torch.einsum("bsf,hfd->bshd", x, self.cube).flatten(2)
        h = torch.tanh(self.left @ h)
        h = torch.baddbmm(self.bias, h, self.stack.expand(len(x), -1, -1))
        return torch.addmm(self.bias, weighted(h), self.last, beta=0.5, alpha=2.0)


class HyperNetwork(nn.Module):
    """A layer makes the weight of another one from a learned code: the batch never passes through it."""

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Parameter(torch.randn(3))
        self.maker = nn.Linear(3, 20)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        return self.head(torch.tanh(F.linear(x, torch.tanh(self.maker(self.code)).view(4, 5))))


class LowRankAdapter(nn.Module):
    """A frozen layer with a trainable low-rank correction whose second factor starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(6, 6).requires_grad_(False)
        self.down = nn.Linear(6, 2, bias=False)
        self.up = nn.Linear(2, 6, bias=False)
        nn.init.zeros_(self.up.weight)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 6) to (B, 4)."""
        return self.head(torch.tanh(self.base(x) + self.up(self.down(x))))


class Unused(nn.Module):
    """A layer never called, a layer whose output is dropped, one multiplied with zero, one behind a detach."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.never = nn.Linear(5, 6)
        self.dropped = nn.Linear(6, 6)
        self.silenced = nn.Linear(6, 6)
        self.detached = nn.Linear(6, 6)
        self.orphan = nn.Parameter(torch.randn(2, 2))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        h = torch.tanh(self.first(x))
        self.dropped(h)
        return self.head(h + self.silenced(h) * 0.0 + self.detached(h).detach())


class HalfDetached(nn.Module):
    """One layer twice: one use is cut off by `detach`, one runs under `no_grad`, one counts."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(5, 5)
        self.backbone = nn.Linear(5, 5)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        with torch.no_grad():
            x = torch.tanh(self.backbone(x)) + self.shared(x)
        return self.head(torch.tanh(self.shared(self.shared(x).detach())))


class LayerScaled(nn.Module):
    """Residual branches with layer-scale, and a gate of shape () that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 5), nn.Linear(5, 5)
        self.gamma = nn.Parameter(1e-3 * torch.ones(5))
        self.gate = nn.Parameter(torch.zeros(()))
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, 5) to (B, 4)."""
        x = x + self.gamma * F.gelu(self.one(x))
        x = x + self.gate.tanh() * F.gelu(self.two(x))
        return self.head(weighted(x))


class LearnedFilter(nn.Module):
    """A filter in the frequency domain: a real parameter seen as complex numbers (GFNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(2, 4, 3, 2) * 0.5)
        self.head = nn.Linear(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, 4, 4) to (B, 4)."""
        spectrum = torch.fft.rfft2(x, norm="ortho") * torch.view_as_complex(self.filter)
        return self.head(torch.fft.irfft2(spectrum, s=x.shape[2:], norm="ortho").square().mean((2, 3)))


class ElementwiseZoo(nn.Module):
    """Raw parameters in divisions, powers, `where`, `addcmul`, `lerp`, indexing, concatenation and `expand`."""

    def __init__(self) -> None:
        super().__init__()
        self.divisor = nn.Parameter(torch.rand(5) + 1.0)
        self.power = nn.Parameter(torch.rand(5) + 1.0)
        self.other = nn.Parameter(torch.randn(5))
        self.pick = nn.Parameter(torch.randn(7, 5))
        self.extra = nn.Parameter(torch.randn(1, 2))
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        h = (x.abs() + 0.1) ** self.power / self.divisor
        h = torch.where(x > 0, h, self.other)
        h = torch.addcmul(h, x, self.pick[3], value=0.5)
        h = torch.lerp(h, self.pick[(x[:, 0] > 0).long() + 1], torch.sigmoid(self.other))
        return self.head(torch.cat([torch.tanh(h), self.extra.expand(len(x), -1)], dim=1))


class InPlaceParameters(nn.Module):
    """Copies parameters into fresh tensors, and overwrites what went into an addition (autograd allows both)."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(6))
        self.offset = nn.Parameter(torch.randn(5))
        self.rows = nn.ParameterList([nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(6))])
        self.first = nn.Linear(5, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        h = x * 1.0
        shifted = h + self.offset
        h.relu_()
        h.mul_(0.5)
        sequence = x.new_zeros(len(x), 4, 6)
        sequence[:, 0] = self.token
        sequence[:, 1] = torch.tanh(self.first(shifted))
        sequence[:, 2:] += torch.stack(list(self.rows))
        return self.head(weighted(torch.sin(sequence))) + h[:, :4]


class Sliced(nn.Module):
    """Slices, transposes, casts and products of parameters, `.data`, and a plain number read from a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.big = nn.Linear(8, 6)
        self.scale = nn.Parameter(torch.tensor([1.5]))
        self.fused = nn.Parameter(torch.randn(3, 6, 4) * 0.4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4): slimmable layer, fused weights cut apart, parts used twice."""
        h = torch.tanh(F.linear(x, self.big.weight[:, :5], self.big.bias[: self.big.out_features]))
        query, key, value = self.fused.unbind(0)
        h = h * self.scale.item() + h * self.scale.data * 0.1
        return (h @ query) * torch.sigmoid(h @ (key * self.scale)) + (h @ value.contiguous().to(h.dtype)) @ key[:4]


def frozen() -> nn.Module:
    """A frozen first layer and a frozen bias in the last."""
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 4))
    model[0].requires_grad_(False)
    model[4].bias.requires_grad_(False)
    return model


def wholly_frozen() -> nn.Module:
    """Every parameter frozen, as after `model.requires_grad_(False)` for deployment."""
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4)).requires_grad_(False)


PARAMETERS = (
    Specimen("raw_scale_shift_and_scalar", Scaled, images(5)),
    Specimen("raw_parameters_in_the_parent", ParentAdds, images(4, 5)),
    Specimen("raw_table_as_long_as_the_batch", SquareTable, images(BATCH, 5)),
    Specimen("positions_through_a_layer", lambda: PositionsOfTheBatch(5), images(5, 5)),
    Specimen("positions_through_a_layer_square", lambda: PositionsOfTheBatch(BATCH), images(BATCH, 5)),
    Specimen("module_used_three_times", UsedTwice, images(6)),
    Specimen("module_at_three_resolutions", TwoResolutions, images(2, 8, 8)),
    Specimen("weights_shared_by_two_modules", SharedWeights, images(5)),
    Specimen("weights_shared_by_two_kinds", SharedAcrossKinds, images(2, 6, 6)),
    Specimen("parameters_outside_their_module", OutsideItsModule, images(5)),
    Specimen("einsum_matmul_baddbmm_addmm", MatrixProducts, images(4, 5)),
    Specimen("hyper_network", HyperNetwork, images(5)),
    Specimen("low_rank_adapter", LowRankAdapter, images(6), tags=tagged("as_built")),
    Specimen("unused_parameters", Unused, images(5)),
    Specimen("half_detached", HalfDetached, images(5)),
    Specimen("layer_scale_and_zero_gate", LayerScaled, images(4, 5), tags=tagged("as_built")),
    Specimen("fourier_filter", LearnedFilter, images(2, 4, 4)),
    Specimen("elementwise_zoo", ElementwiseZoo, images(5)),
    Specimen("parameters_copied_in_place", InPlaceParameters, images(5)),
    Specimen("sliced_and_fused_parameters", Sliced, images(5)),
    Specimen("frozen_layers", frozen, images(5)),
    Specimen("wholly_frozen", wholly_frozen, images(5)),
)
