"""The contrastive loss against independent forms of it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gradiometer.errors import InputError
from gradiometer.severity.contrastive import contrastive_loss


def views(images: int, count: int = 2, size: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(images, count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def nt_xent(projections: Tensor, temperature: float) -> float:
    """NT-Xent as the paper of SimCLR writes it, by a cross entropy over pairs, view by view."""
    first, second = F.normalize(projections, dim=2).unbind(1)
    losses = []
    for mine, other in ((first, second), (second, first)):
        for row in range(len(projections)):
            candidates = [other[row], *(other[k] for k in range(len(other)) if k != row)]
            candidates += [mine[k] for k in range(len(mine)) if k != row]
            logits = torch.stack([mine[row] @ candidate for candidate in candidates]) / temperature
            losses.append(F.cross_entropy(logits[None], torch.tensor([0])).item())
    return sum(losses) / len(losses)


def loop(projections: Tensor, labels: list[int], temperature: float) -> float:
    """Equation 2 of Khosla et al., one anchor and one positive at a time."""
    rows = [(image, F.normalize(v, dim=0)) for image, pair in enumerate(projections) for v in pair]
    total, anchors = 0.0, 0
    for i, (image, anchor) in enumerate(rows):
        others = [(k, other) for k, (_, other) in enumerate(rows) if k != i]
        bottom = sum(math.exp(float(anchor @ other) / temperature) for _, other in others)
        positive = [
            math.exp(float(anchor @ other) / temperature) / bottom
            for k, other in others
            if rows[k][0] == image or (labels[rows[k][0]] == labels[image] != -1)
        ]
        if positive:
            total -= sum(map(math.log, positive)) / len(positive)
            anchors += 1
    return total / anchors if anchors else 0.0


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_without_labels_it_is_simclr(temperature: float) -> None:
    projections = views(7)
    expected = pytest.approx(nt_xent(projections, temperature), rel=1e-12)
    assert contrastive_loss(projections, temperature=temperature).item() == expected
    assert contrastive_loss(projections, torch.arange(7), temperature=temperature).item() == expected


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2], [3, 3, 3, 3, 3], [0, -1, 0, -1, 2], [-1, -1, -1, -1, 0]])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_it_is_equation_2_of_the_paper(labels: list[int], count: int) -> None:
    projections = views(5, count)
    found = contrastive_loss(projections, torch.tensor(labels), temperature=0.2).item()
    assert found == pytest.approx(loop(projections, labels, 0.2), rel=1e-12)


def test_columns_are_summed_with_their_weights() -> None:
    projections, columns = views(6), torch.tensor([[0, 0, 1, 1, 2, 2], [0, 1, 0, 1, -1, -1]]).T
    single = [contrastive_loss(projections, column).item() for column in columns.T]
    assert contrastive_loss(projections, columns).item() == pytest.approx(sum(single))
    weighted = contrastive_loss(projections, columns, weights=[2.0, 0.5]).item()
    assert weighted == pytest.approx(2 * single[0] + 0.5 * single[1])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(order=st.permutations(range(6)), labels=st.lists(st.integers(-1, 2), min_size=6, max_size=6))
def test_the_order_of_the_images_plays_no_role(order: list[int], labels: list[int]) -> None:
    projections, column = views(6), torch.tensor(labels)
    expected = contrastive_loss(projections, column).item()
    assert contrastive_loss(projections[order], column[order]).item() == pytest.approx(expected, rel=1e-12)
    # nor does the name of a label
    renamed = torch.where(column >= 0, 40 - column, column)
    assert contrastive_loss(projections, renamed).item() == pytest.approx(expected, rel=1e-12)
    assert contrastive_loss(projections.flip(1), column).item() == pytest.approx(expected, rel=1e-12)


def test_missing_labels_add_no_positives_and_stay_among_the_others() -> None:
    projections = views(4)
    labelled = contrastive_loss(projections, torch.tensor([0, 0, 1, 2]))
    missing = contrastive_loss(projections, torch.tensor([0, 0, -1, -1]))
    assert missing.item() == pytest.approx(labelled.item(), rel=1e-12)


def test_an_anchor_without_positives_is_left_out() -> None:
    """One view: the third image has no positive; the first two are as if it were only among their others."""
    projections = views(3, count=1)
    found = contrastive_loss(projections, torch.tensor([0, 0, 1])).item()
    assert found == pytest.approx(loop(projections, [0, 0, 1], 0.07), rel=1e-12)


@pytest.mark.parametrize("images", [1, 3])
def test_no_positive_at_all_gives_zero_and_no_gradient(images: int) -> None:
    projections = views(images, count=1).requires_grad_()
    loss = contrastive_loss(projections)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(projections.grad, torch.zeros_like(projections))


@pytest.mark.parametrize("images", [1, 2, 600])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_batch_and_no_temperature_overflows(images: int, dtype: torch.dtype) -> None:
    projections = (1e3 * views(images)).to(dtype).requires_grad_()
    loss = contrastive_loss(projections, torch.arange(images) // 2, temperature=1e-3)
    loss.backward()
    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item())
    assert projections.grad is not None
    assert bool(torch.isfinite(projections.grad).all())


def test_gradient_is_that_of_finite_differences() -> None:
    projections = views(4).requires_grad_()
    labels = torch.tensor([[0, 0, 1, -1], [1, 0, 1, 0]]).T
    assert torch.autograd.gradcheck(lambda x: contrastive_loss(x, labels, temperature=0.3), projections)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3, 4),), r"must be floating point \(images, views, dimensions\)"),
        ((views(3), torch.zeros(3)), "must be whole numbers"),
        ((views(3), torch.tensor([0, 1])), r"shape \(3,\)"),
        ((views(3), torch.tensor([0, 1, -2])), "one is -2"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: tuple[Tensor, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        contrastive_loss(*arguments)
    with pytest.raises(InputError, match="temperature must be above 0"):
        contrastive_loss(views(2), temperature=0)
    with pytest.raises(InputError, match="1 weights for 2 columns"):
        contrastive_loss(views(2), torch.zeros(2, 2, dtype=torch.long), weights=[1.0])
