"""Linear layers in every position, bilinear layers, and parametrised weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.specimens.record import BATCH, Specimen, Then, images, tagged


class Mean(nn.Module):
    """Mean over every dimension between the first and the last."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, ..., F) to (B, F)."""
        return x.flatten(1, -2).mean(1) if x.dim() > 2 else x


class CalledByKeyword(nn.Module):
    """Calls its layers with keyword arguments only."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.last = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        return self.last(input=torch.tanh(self.first(input=x)))


class DoublingLinear(nn.Linear):
    """A subclass whose forward is not that of its parent."""

    def forward(self, x: Tensor) -> Tensor:
        """Uses the weight twice, once squared."""
        return F.linear(x, self.weight * self.weight.abs(), self.bias) * 2.0


class RowByRow(nn.Module):
    """Calls the layer once per sample on a vector without a batch dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.last = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        return self.last(torch.stack([torch.tanh(self.first(row)) for row in x]))


class HalvesOfTheBatch(nn.Module):
    """Calls the layer on one half of the batch, then on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.last = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        return self.last(torch.cat([torch.tanh(self.first(half)) for half in x.chunk(2)]))


class FlippedBatch(nn.Module):
    """Runs one layer on the batch in reversed order and turns the result back."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.last = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        return self.last(torch.tanh(self.first(x.flip(0))).flip(0))


class Transposed(nn.Module):
    """Mixes channels and tokens with linear layers on transposed, not contiguous inputs (MLP-Mixer)."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Linear(6, 6)
        self.channels = nn.Linear(5, 5, bias=False)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 6, 5) to (B, 4)."""
        x = x + F.gelu(self.tokens(x.transpose(1, 2))).transpose(1, 2)
        return self.head((x + F.gelu(self.channels(x))).mean(1))


class Expanded(nn.Module):
    """Feeds a layer with an expanded tensor (stride zero) and weights its rows differently afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.last = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        rows = torch.tanh(self.first(x.unsqueeze(1).expand(-1, 3, -1)))
        return self.last((rows * torch.tensor([1.0, -2.0, 0.5]).to(x).view(1, 3, 1)).sum(1))


class BilinearClassifier(nn.Module):
    """Two projections that meet in a bilinear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(6, 3)
        self.right = nn.Linear(6, 4)
        self.meet = nn.Bilinear(3, 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 6) to (B, 5)."""
        return self.meet(self.left(x), torch.sigmoid(self.right(x)))


class BilinearOnSequences(nn.Module):
    """A bilinear layer on (B, S, F)."""

    def __init__(self) -> None:
        super().__init__()
        self.meet = nn.Bilinear(3, 3, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, 3) to (B, 4)."""
        return self.meet(x, x.flip(1)).mean(1)


class Maxout(nn.Module):
    """Maximum over groups of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces = nn.Linear(6, 5 * 3)
        self.gate = nn.Linear(5, 8)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 6) to (B, 3) through maxout and a gated linear unit."""
        x = self.pieces(x).unflatten(1, (5, 3)).amax(2)
        return self.head(F.glu(self.gate(x), dim=1))


class InPlaceOnOutputs(nn.Module):
    """Writes into what its layers returned: a slice, an addition, an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.second = nn.Linear(6, 6)
        self.last = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        h = self.first(x)
        h[:, 0] = 0.25
        h[:, 1:3] *= 2.0
        g = self.second(torch.tanh(h))
        g += h
        g.relu_()
        return self.last(g)


def unchanged_by_hook(scale: float) -> nn.Module:
    """An MLP in which the owner's forward hooks rewrite an input and an output."""
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
    model[0].register_forward_hook(lambda module, arguments, output: output * scale)
    model[2].register_forward_pre_hook(lambda module, arguments: (arguments[0] + 0.5,))
    return model


def replaced_forward() -> nn.Module:
    """An MLP in which the forward of one instance was replaced from outside."""
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
    first = model[0]
    first.forward = lambda x: F.linear(x, first.weight, None) + first.bias.cumsum(0)
    return model


def saturated() -> nn.Module:
    """Saturated sigmoid and tanh units beside live ones."""
    model = nn.Sequential(nn.Linear(5, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
    with torch.no_grad():
        model[0].bias[::2] = 40.0
        model[2].bias[::2] = -25.0
    return model


def dead() -> nn.Module:
    """A ReLU layer of which half the units are dead for every input: exact zeros in the gradients."""
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    with torch.no_grad():
        model[0].bias[::2] = -100.0
    return model


def wholly_dead() -> nn.Module:
    """A layer of which every unit is dead: only the last bias has a gradient."""
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4))
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
    return model


def confident() -> nn.Module:
    """Logits that are tens of units apart."""
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([55.0, -3.0, -20.0, 4.0]))
    return model


def weight_normalised() -> nn.Module:
    """Weight norm as a parametrisation, on a linear and on a convolution layer."""
    return nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(2, 3, 3)),
        nn.Tanh(),
        nn.Flatten(),
        parametrizations.weight_norm(nn.Linear(3 * 9, 4)),
    )


def weight_normalised_by_hooks() -> nn.Module:
    """Weight norm in its older spelling, which recomputes the weight in a forward pre-hook."""
    return nn.Sequential(nn.utils.weight_norm(nn.Linear(5, 6)), nn.Tanh(), nn.Linear(6, 4))


def spectrally_normalised() -> nn.Module:
    """Spectral norm as a parametrisation."""
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(5, 6)),
        nn.Tanh(),
        parametrizations.orthogonal(nn.Linear(6, 6)),
        nn.Tanh(),
        nn.Linear(6, 4),
    )


def spectrally_normalised_by_hooks() -> nn.Module:
    """Spectral norm in its older spelling."""
    return nn.Sequential(nn.utils.spectral_norm(nn.Conv1d(2, 3, 3)), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 4, 4))


def nested() -> nn.Module:
    """Sequentials in Sequentials in a ModuleDict."""
    inner = nn.Sequential(nn.Sequential(nn.Linear(6, 6), nn.ELU()), nn.Sequential(nn.Sequential(nn.Linear(6, 5))))
    return nn.Sequential(
        nn.Sequential(nn.Linear(5, 6), nn.SiLU()), inner, nn.Sequential(nn.Softplus(), nn.Linear(5, 4))
    )


DENSE = (
    Specimen("mlp", lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)), images(6)),
    Specimen("single_linear", lambda: nn.Linear(6, 5), images(6)),
    Specimen(
        "mlp_without_bias",
        lambda: nn.Sequential(nn.Linear(6, 8, bias=False), nn.GELU(), nn.Linear(8, 5, bias=False)),
        images(6),
    ),
    Specimen(
        "mlp_wide_outputs",
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 20), nn.LeakyReLU(), nn.Linear(20, 37)),
        images(3, 4, 4),
    ),
    Specimen("linear_two_classes", lambda: nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 2)), images(6)),
    Specimen("linear_sequence", lambda: Then(nn.Linear(5, 6), torch.tanh, nn.Linear(6, 4), Mean()), images(7, 5)),
    Specimen(
        "linear_sequence_as_long_as_the_batch",
        lambda: Then(nn.Linear(5, 6), torch.tanh, nn.Linear(6, 4), Mean()),
        images(BATCH, 5),
    ),
    Specimen(
        "linear_sequence_of_one", lambda: Then(nn.Linear(5, 6), torch.tanh, Mean(), nn.Linear(6, 4)), images(1, 5)
    ),
    Specimen("linear_long_sequence", lambda: Then(nn.Linear(2, 3), torch.tanh, Mean(), nn.Linear(3, 4)), images(40, 2)),
    Specimen("linear_grid", lambda: Then(nn.Linear(5, 6), torch.tanh, nn.Linear(6, 4), Mean()), images(3, 4, 5)),
    Specimen("linear_cube", lambda: Then(nn.Linear(3, 4), torch.tanh, Mean(), nn.Linear(4, 4)), images(2, 3, 2, 3)),
    Specimen("linear_transposed", Transposed, images(6, 5)),
    Specimen("linear_expanded_input", Expanded, images(5)),
    Specimen("linear_by_keyword", CalledByKeyword, images(5)),
    Specimen(
        "linear_subclass_with_its_own_forward",
        lambda: nn.Sequential(DoublingLinear(5, 6), nn.Tanh(), nn.Linear(6, 4)),
        images(5),
    ),
    Specimen("forward_replaced_on_the_instance", replaced_forward, images(5)),
    Specimen("hooks_that_rewrite_tensors", lambda: unchanged_by_hook(3.0), images(5)),
    Specimen("row_by_row", RowByRow, images(5), tags=tagged("may_refuse")),
    Specimen("halves_of_the_batch", HalvesOfTheBatch, images(5), tags=tagged("may_refuse")),
    Specimen("flipped_batch", FlippedBatch, images(5), tags=tagged("may_refuse")),
    Specimen("bilinear", BilinearClassifier, images(6)),
    Specimen("bilinear_sequence", BilinearOnSequences, images(4, 3)),
    Specimen("maxout_and_glu", Maxout, images(6)),
    Specimen("in_place_on_outputs", InPlaceOnOutputs, images(5)),
    Specimen("saturated_sigmoid_tanh", saturated, images(5)),
    Specimen("dead_relu", dead, images(5)),
    Specimen("wholly_dead_relu", wholly_dead, images(5)),
    Specimen("confident_logits", confident, images(5)),
    Specimen("weight_norm", weight_normalised, images(2, 5, 5)),
    Specimen("weight_norm_by_hooks", weight_normalised_by_hooks, images(5)),
    Specimen("spectral_norm_and_orthogonal", spectrally_normalised, images(5)),
    Specimen("spectral_norm_by_hooks", spectrally_normalised_by_hooks, images(2, 6)),
    Specimen("nested_sequentials", nested, images(5)),
)
