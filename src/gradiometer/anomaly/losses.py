"""What an auto-encoder gets wrong, for each image on its own."""

from __future__ import annotations

from torch import Tensor


def reconstruction_loss(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Mean squared difference over channels and pixels.

    Args:
        images: (B, K, H, W).
        reconstructions: (B, K, H, W).

    Returns:
        (B,), 0 for a perfect reconstruction.

    Example:
        >>> import torch
        >>> reconstruction_loss(torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]))
        tensor([0.2500])
    """
    return (images - reconstructions).square().mean(tuple(range(1, images.ndim)))


def latent_loss(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Divergence of normal distributions from the standard one: `0.5 sum(m² + v - 1 - log v)`.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix B.

    Args:
        mean: m (B, D).
        log_variance: log v (B, D).

    Returns:
        (B,) in nats, 0 for the standard normal distribution.

    Example:
        >>> import torch
        >>> latent_loss(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))
        tensor([2.])
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
