"""Two views of an image: the augmentation of contrastive pre-training, by torchvision's second transforms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2

from gradiometer.data import to_unit
from gradiometer.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """What two views of an image may differ by. The defaults are those of SimCLR and of the released code.

    Attributes:
        smallest_crop: Share of the area that a crop has at least; the crop is brought back to the size of the image.
            1 for no crop.
        mirror: Probability that a view is mirrored left to right.
        jitter: Reach of brightness, contrast and saturation; a quarter of it is that of the hue.
        jitter_share: Share of the views whose colours are changed.
        grey_share: Share of the views that lose their colour. Grey images have none to lose.

    Raises:
        InputError: A setting is out of range.
    """

    smallest_crop: float = 0.2
    mirror: float = 0.5
    jitter: float = 0.4
    jitter_share: float = 0.8
    grey_share: float = 0.2

    def __post_init__(self) -> None:
        """Refuse settings that make no view."""
        for name in ("mirror", "jitter_share", "grey_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it is a share, give 0 to 1")
        if not 0 < self.smallest_crop <= 1:
            raise InputError(f"smallest_crop is {self.smallest_crop}; give a share above 0 and at most 1")
        if not 0 <= self.jitter <= 1:
            raise InputError(f"jitter is {self.jitter}; give 0 to 1")


class Views:
    """Makes views of images, the same ones for the same seed.

    Args:
        augmentation: What they may differ by.
        size: Height and width of the images, which the views keep.

    Example:
        >>> views = Views(Augmentation(), (28, 28))
        >>> images = torch.randint(0, 256, (4, 3, 28, 28), dtype=torch.uint8)
        >>> first, again = views.pair(images, seed=1), views.pair(images, seed=1)
        >>> first.shape, torch.equal(first, again), torch.equal(first[:, 0], first[:, 1])
        (torch.Size([4, 2, 3, 28, 28]), True, False)
    """

    def __init__(self, augmentation: Augmentation, size: tuple[int, int]) -> None:
        steps: list[torch.nn.Module] = []
        if augmentation.smallest_crop < 1:
            steps.append(v2.RandomResizedCrop(size, scale=(augmentation.smallest_crop, 1.0), antialias=True))
        if augmentation.mirror:
            steps.append(v2.RandomHorizontalFlip(augmentation.mirror))
        reach = augmentation.jitter
        if reach and augmentation.jitter_share:
            steps.append(v2.RandomApply([v2.ColorJitter(reach, reach, reach, reach / 4)], augmentation.jitter_share))
        if augmentation.grey_share:
            steps.append(v2.RandomGrayscale(augmentation.grey_share))
        self._transform = v2.Compose(steps or [v2.Identity()])

    def pair(self, images: Tensor, seed: int) -> Tensor:
        """Two views of each image; the global random state is left alone.

        Args:
            images: uint8 (B, K, H, W).
            seed: Decides all that is random.

        Returns:
            float32 (B, 2, K, H, W) in [0, 1].
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # One image at a time: a transform draws once for a whole batch.
            pairs = [torch.stack([self._transform(image), self._transform(image)]) for image in to_unit(images)]
        return torch.stack(pairs).clamp_(0, 1)
