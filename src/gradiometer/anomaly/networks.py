"""The auto-encoders of GradCon, for images of any size and number of channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from gradiometer.anomaly.losses import latent_loss
from gradiometer.errors import InputError
from gradiometer.models.normalize import check_images
from gradiometer.models.stored import load_weights

Kind = Literal["cae", "vae"]
Extent = tuple[int, int]

SMALLEST = 4
"""The smallest height and width, in pixels, that four layers of stride two can give back."""

_WIDTHS = (32, 32, 64, 64)
_DECODED = (64, 32, 32)
_KERNEL, _STRIDE, _PADDING = 4, 2, 2
_DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class AutoEncoder(nn.Module):
    """The convolutional auto-encoder of GradCon (CAE): four convolutions of stride two, and four that undo them.

    For 28 x 28 pixels it is the published network: a latent map of 64 x 3 x 3, 230,721 parameters for grey images and
    232,771 for colour (Kwon et al., "Backpropagated Gradient Representations for Anomaly Detection", ECCV 2020). For
    other sizes only the paddings of the decoder differ, so that it gives back what the encoder took; the number of
    parameters is the same for every size.

    Args:
        channels: Channels K of the images.
        size: Height and width in pixels; one number for a square.

    Attributes:
        extent: Height and width.
        latent: Shape of the latent map (64, h, w).

    Raises:
        InputError: A side is below 4 pixels, or there is no channel.

    Example:
        >>> network = AutoEncoder(channels=1, size=28)
        >>> network.latent, network(torch.rand(2, 1, 28, 28)).shape
        ((64, 3, 3), torch.Size([2, 1, 28, 28]))
    """

    def __init__(self, channels: int = 3, size: int | Extent = 28) -> None:
        super().__init__()
        extent = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        if min(extent) < SMALLEST:
            raise InputError(f"the auto-encoder takes images of {SMALLEST} pixels and more on each side, got {extent}")
        if channels < 1:
            raise InputError(f"the auto-encoder needs one channel or more, got {channels}")
        self.channels, self.extent = channels, extent
        heights, widths = _decoder_paddings(extent[0]), _decoder_paddings(extent[1])
        sides = _encoded(extent[0]), _encoded(extent[1])
        self.latent: tuple[int, int, int] = (_WIDTHS[-1], *sides)
        layers: list[nn.Module] = []
        for before, after in zip((channels, *_WIDTHS), _WIDTHS, strict=False):
            layers += [nn.Conv2d(before, after, _KERNEL, _STRIDE, _PADDING), nn.ReLU()]
        self.encoder = nn.Sequential(*layers)
        layers = []
        outputs = (*_DECODED, channels)
        for number, (before, after) in enumerate(zip((_WIDTHS[-1], *_DECODED), outputs, strict=True)):
            (top, below), (left, right) = heights[number], widths[number]
            layers += [
                nn.ConvTranspose2d(before, after, _KERNEL, _STRIDE, (top, left), (below, right)),
                nn.Sigmoid() if number + 1 == len(outputs) else nn.ReLU(),
            ]
        self.decoder = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructions (B, K, H, W) in [0, 1] of images (B, K, H, W) in [0, 1].

        Raises:
            InputError: The images have another shape or type.
        """
        decoded: Tensor = self.decoder(self.encode(x))
        return decoded

    def encode(self, x: Tensor) -> Tensor:
        """Latent maps (B, 64, h, w) of images (B, K, H, W)."""
        check_images(x, self.channels, self.extent)
        latent: Tensor = self.encoder(x)
        return latent

    def passed(self, x: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Reconstructions and the latent loss, as training needs them.

        Args:
            x: Images (B, K, H, W).
            generator: What a variational network draws from in train mode.

        Returns:
            Reconstructions (B, K, H, W) and one latent loss for each image (B,), which is 0 here.
        """
        return self(x), x.new_zeros(len(x))


class VariationalAutoEncoder(AutoEncoder):
    """The variational auto-encoder of GradCon (VAE): the same convolutions around a Gaussian latent vector.

    Three linear layers, as wide as the latent map has entries, give its mean, its log variance, and the map that is
    decoded: 1,227,777 parameters for grey images of 28 x 28 pixels and 1,229,827 for colour. In train mode the latent
    vector is drawn, in evaluation mode it is the mean.

    Args:
        channels: Channels K of the images.
        size: Height and width in pixels; one number for a square.
    """

    def __init__(self, channels: int = 3, size: int | Extent = 28) -> None:
        super().__init__(channels, size)
        wide = self.latent[0] * self.latent[1] * self.latent[2]
        self.mean = nn.Linear(wide, wide)
        self.log_variance = nn.Linear(wide, wide)
        self.expand = nn.Linear(wide, wide)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructions (B, K, H, W) of images (B, K, H, W), from the mean in evaluation mode."""
        return self.passed(x)[0]

    def passed(self, x: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Reconstructions, and for each image (B,) the divergence of its latent distribution from the normal one."""
        mean, log_variance = self.distribution(x)
        drawn = mean
        if self.training:
            noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
            drawn = mean + noise * (0.5 * log_variance).exp()
        decoded: Tensor = self.decoder(self.expand(drawn).view(-1, *self.latent))
        return decoded, latent_loss(mean, log_variance)

    def distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, D) of the latent vectors of images (B, K, H, W)."""
        flat = self.encode(x).flatten(1)
        return self.mean(flat), self.log_variance(flat)


NETWORKS: dict[Kind, type[AutoEncoder]] = {"cae": AutoEncoder, "vae": VariationalAutoEncoder}
"""The auto-encoders by name."""


def make_network(kind: str, channels: int, size: int | Extent, *, seed: int | None = None) -> AutoEncoder:
    """Build an auto-encoder with PyTorch's default initial weights.

    Args:
        kind: `cae` or `vae`.
        channels: Channels K of the images.
        size: Height and width in pixels.
        seed: Of the initial weights, which leaves the global generator as it was; drawn from that one when None.

    Raises:
        InputError: If there is no such network, or the size is too small.
    """
    for name, network in NETWORKS.items():
        if name == kind:
            with torch.random.fork_rng(devices=[], enabled=seed is not None):
                if seed is not None:
                    torch.manual_seed(seed)
                return network(channels, size)
    raise InputError(f"there is no auto-encoder {kind!r}; choose one of {', '.join(NETWORKS)}")


def describe_network(network: nn.Module) -> dict[str, Any]:
    """What an auto-encoder of this package is built from, as JSON values."""
    assert isinstance(network, AutoEncoder)
    kind = next(kind for kind, one in NETWORKS.items() if type(network) is one)
    described: dict[str, Any] = {"kind": kind, "channels": network.channels, "size": list(network.extent)}
    dtype = next(network.parameters()).dtype
    return described if dtype == torch.float32 else {**described, "dtype": str(dtype).removeprefix("torch.")}


def rebuild_network(described: Mapping[str, Any], weights: Mapping[str, Tensor]) -> AutoEncoder:
    """An auto-encoder in evaluation mode, from its description and its weights.

    Raises:
        ArtefactError: The weights are not those of such a network.
    """
    network = make_network(described["kind"], described["channels"], tuple(described["size"]), seed=0)
    network.to(_DTYPES[described.get("dtype", "float32")])
    load_weights(network, dict(weights), "the file of the detector")
    return network.eval()


def _encoded(side: int) -> int:
    """Height or width of the latent map."""
    for _ in _WIDTHS:
        side = (side + 2 * _PADDING - _KERNEL) // _STRIDE + 1
    return side


def _decoder_paddings(side: int) -> list[tuple[int, int]]:
    """Padding and output padding of the four layers of the decoder, for one side of the image.

    From n pixels a layer makes 2 n + 2 - 2 p + o. The last three have the published paddings 1, 2, 1, with one more
    row where the size is odd; the first one leads from the latent map to where they begin.
    """
    paddings: list[tuple[int, int]] = []
    target = side
    for padding in (1, 2, 1):
        before = (target - 2 + 2 * padding) // 2
        paddings.append((padding, target - (2 * before + 2 - 2 * padding)))
        target = before
    room = 2 * _encoded(side) + 2 - target
    paddings.append(((room + 1) // 2, room % 2))
    return paddings[::-1]
