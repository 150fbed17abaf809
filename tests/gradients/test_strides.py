"""A batch of one sample has the gradients that the sample has in a larger batch, in whatever order memory is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradiometer import Gradiometer
from gradiometer.detectors import ODIN


class Tokens(nn.Module):
    """A convolution and a norm whose output becomes tokens, as in XCiT and EfficientFormer."""

    def __init__(self, norm: nn.Module, dimensions: int, *, first: bool = False) -> None:
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        self.stem = convolution(2, 8, 3, padding=1)
        self.norm = norm
        self.tokens = nn.LayerNorm(8)
        self.mixed = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.first:  # tokens before the norm, and the channels in front again
            shape = x.shape
            x = torch.tanh(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(shape)
        tokens = self.tokens(self.norm(x).flatten(2).transpose(1, 2))
        return self.head(torch.tanh(self.mixed(tokens)).mean(1))


CASES = {
    "batch norm": (lambda: nn.BatchNorm2d(8), 2, False),
    "batch norm of volumes": (lambda: nn.BatchNorm3d(8), 3, False),
    "instance norm": (lambda: nn.InstanceNorm2d(8, affine=True), 2, False),
    "instance norm of volumes": (lambda: nn.InstanceNorm3d(8, affine=True), 3, False),
    "batch norm of tokens": (lambda: nn.BatchNorm2d(8), 2, True),
    "instance norm of tokens": (lambda: nn.InstanceNorm2d(8, affine=True), 2, True),
}


def built(case: str) -> tuple[nn.Module, Tensor]:
    norm, dimensions, first = CASES[case]
    torch.manual_seed(0)
    model = Tokens(norm(), dimensions, first=first).double().eval()
    with torch.no_grad():
        for parameter in model.norm.parameters():
            parameter.uniform_(0.5, 1.5)
        for buffer in model.norm.buffers():
            buffer.copy_(torch.rand(buffer.shape) + 0.5)
    return model, torch.rand(3, 2, *(4, 5, 6)[-dimensions:], dtype=torch.float64)


def loss(logits: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


@pytest.mark.parametrize("case", CASES)
def test_one_sample_has_the_gradients_that_differences_of_its_loss_give(case):
    model, x = built(case)
    gradients = Gradiometer(model).gradients(x[:1])
    step = 1e-6
    for name, parameter in model.named_parameters():
        if name.startswith(("tokens", "mixed", "head")):
            continue
        flat, found = parameter.data.view(-1), gradients[name].flatten()
        for at in range(0, len(flat), max(1, len(flat) // 5)):
            before = flat[at].item()
            with torch.no_grad():
                flat[at] = before + step
                more = loss(model(x[:1]))
                flat[at] = before - step
                less = loss(model(x[:1]))
                flat[at] = before
            assert found[at].item() == pytest.approx(((more - less) / (2 * step)).item(), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_one_sample_is_read_as_in_a_batch_and_nothing_is_left_to_the_loop(case):
    model, x = built(case)
    meter = Gradiometer(model)
    together = meter.squared_norms(x).values
    alone = torch.cat([meter.squared_norms(x[row : row + 1]).values for row in range(3)])
    assert torch.allclose(together, alone, rtol=1e-9)
    assert "loop" not in {line.path for line in meter.plan(x).lines}
    assert not any(module._forward_hooks for module in model.modules())


def test_scores_that_follow_the_gradient_of_an_image_are_those_of_a_batch():
    model, x = built("batch norm")
    odin = ODIN(model, temperature=1, epsilon=0.05)
    together = odin.predict(x)
    assert torch.allclose(together, torch.cat([odin.predict(x[row : row + 1]) for row in range(3)]), rtol=1e-9)


class Kept(nn.Module):
    """Attention that keeps its biases from one pass to the next, as that of LeViT in timm does."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Linear(4, 4)
        self.biases = nn.Parameter(torch.randn(3))
        self.bias_cache: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if "cpu" not in self.bias_cache:
            at = torch.arange(3)
            self.bias_cache["cpu"] = self.biases[(at[:, None] - at).abs()]
        weights = (self.queries(x) @ x.transpose(1, 2) + self.bias_cache["cpu"]).softmax(2)
        return (weights @ x).mean(1)


@pytest.mark.parametrize("used", ["never", "without gradients", "with gradients"])
def test_what_modules_keep_of_their_parameters_is_found_again(used):
    torch.manual_seed(0)
    model, x = Kept().eval(), torch.randn(4, 3, 4)
    if used != "never":
        with torch.set_grad_enabled(used == "with gradients"):
            model(x)
    kept = dict(model.bias_cache)
    found = Gradiometer(model).squared_norms(x)
    assert model.bias_cache.keys() == kept.keys()
    assert all(model.bias_cache[key] is value for key, value in kept.items())
    again = Gradiometer(model).squared_norms(x[:1])
    for row in range(4):
        model.bias_cache = {}
        parameters = dict(model.named_parameters())
        expected = torch.autograd.grad(loss(model(x[row : row + 1])), list(parameters.values()))
        squares = torch.stack([gradient.square().sum() for gradient in expected])
        assert torch.allclose(found.values[row].float(), squares, rtol=1e-4)
    assert torch.allclose(again.values, found.values[:1], rtol=1e-5)
    assert found["biases"].min() > 0
