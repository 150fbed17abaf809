"""Supervised contrastive loss with any number of label columns (Khosla et al., NeurIPS 2020, equation 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gradiometer.errors import InputError

UNLABELLED = -1
"""The label of an image about which a column says nothing."""


def contrastive_loss(
    projections: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float = 0.07,
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Pull together views of images with the same label, and apart all others; one loss for each column, summed.

    With anchors i over the B V views, projections v of length one, and P(i) the other views of the same label, a
    column gives

        mean over i of  -1/|P(i)| sum over p in P(i) of  log( exp(v_i.v_p / t) / sum over a != i of exp(v_i.v_a / t) ).

    The other views of an image are among its P(i) whatever its label. An image without a label in a column has no
    other positives there, as in SimCLR; without labels at all, every image is like that, and the loss is NT-Xent (Chen
    et al., "A Simple Framework for Contrastive Learning", ICML 2020). An anchor without positives (one view of an
    image whose label nobody else has) gives nothing to push towards: it is left out of the mean, and stays among the a
    of the others. Without any anchor left, the loss is zero and so is its gradient.

    The logarithm of the sum is taken after the largest term is subtracted, in float32 or better, so that neither a
    large batch nor a low temperature overflows. The sum over columns is that of the clinical labels of Kokilepersaud
    et al., "Clinically Labeled Contrastive Learning for OCT Biomarker Classification", JBHI 2023.

    Args:
        projections: Floating point (B, V, D): V views of each of B images. They need not have length one.
        labels: Whole numbers (B,) or (B, L), one column for each kind of label, -1 where there is none; None for
            SimCLR.
        temperature: t, above 0.
        weights: Factor of each column; 1 when absent.

    Returns:
        The loss, a scalar of the type of the projections, float32 at least.

    Raises:
        InputError: A shape, a type or a value does not fit.

    Example:
        >>> views = torch.eye(4).reshape(2, 2, 4)  # two images, two views each, all orthogonal
        >>> round(contrastive_loss(views).item(), 4)  # log 3: any of the three others is as likely
        1.0986
    """
    columns = _checked(projections, labels, temperature, weights)
    count, views, _ = projections.shape
    precise = projections if projections.dtype == torch.float64 else projections.float()
    rows = F.normalize(precise, dim=2).transpose(0, 1).reshape(count * views, -1)
    itself = torch.eye(count * views, dtype=torch.bool, device=rows.device)
    similarity = (rows @ rows.T) / temperature
    others = similarity.masked_fill(itself, -torch.inf)
    # One image in one view has no others; the sum over nothing must not become an infinity with a gradient.
    log_sums = torch.logsumexp(others, 1, keepdim=True) if count * views > 1 else similarity
    log_shares = (similarity - log_sums).masked_fill(itself, 0.0)
    image = torch.arange(count, device=rows.device).repeat(views)
    same_image = (image[:, None] == image[None, :]) & ~itself
    total = log_shares.sum() * 0.0
    factors = [1.0] * columns.shape[1] if weights is None else weights
    for column, factor in zip(columns.to(rows.device).T, factors, strict=True):
        label = column.repeat(views)
        same_label = (label[:, None] == label[None, :]) & (label != UNLABELLED)[:, None] & ~itself
        positive = same_image | same_label
        counts = positive.sum(1)
        anchors = counts > 0
        means = (log_shares * positive).sum(1)[anchors] / counts[anchors]
        if len(means):
            total = total - factor * means.mean()
    return total


def _checked(projections: Tensor, labels: Tensor | None, temperature: float, weights: Sequence[float] | None) -> Tensor:
    """The labels as (B, L), after all arguments are checked."""
    if projections.ndim != 3 or not projections.is_floating_point() or 0 in projections.shape:
        raise InputError(
            f"projections must be floating point (images, views, dimensions), got {projections.dtype} "
            f"{tuple(projections.shape)}"
        )
    if not temperature > 0:
        raise InputError(f"the temperature must be above 0, got {temperature}")
    count = len(projections)
    columns = torch.full((count, 1), UNLABELLED) if labels is None else labels
    if columns.ndim == 1:
        columns = columns[:, None]
    if columns.is_floating_point() or columns.ndim != 2 or len(columns) != count or columns.shape[1] == 0:
        raise InputError(
            f"labels must be whole numbers of shape ({count},) or ({count}, columns), got {columns.dtype} "
            f"{tuple(columns.shape)}"
        )
    if int(columns.min()) < UNLABELLED:
        raise InputError(f"labels start at 0, or are -1 where there is none; one is {int(columns.min())}")
    if weights is not None and len(weights) != columns.shape[1]:
        raise InputError(f"{len(weights)} weights for {columns.shape[1]} columns of labels; give one for each")
    return columns
