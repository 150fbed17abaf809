"""From an uploaded file to what the detector takes."""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from gradiometer import data
from gradiometer.data.decode import FORMATS, Form
from gradiometer.errors import InputError


@dataclass(frozen=True)
class Uploads:
    """Decodes files to images of one form.

    Attributes:
        form: Channels and size of the images of the fit, and whether others are resized.
        megapixels: Size of an image at most, when it is decoded.
    """

    form: Form
    megapixels: float

    def decode(self, content: bytes) -> Tensor | str:
        """One file.

        Args:
            content: Its bytes.

        Returns:
            The image (K, H, W) float32 in [0, 1], or what is wrong with it.
        """
        form = self.form
        height, width = _size(content)
        if width * height > self.megapixels * 1e6:
            return (
                f"the image has {height} x {width} pixels, more than {self.megapixels:g} megapixels; send a smaller one"
            )
        if width and not form.resize and (height, width) != (form.height, form.width):
            return (
                f"the image has {height} x {width} pixels where the detector was fitted on {form.height} x "
                f"{form.width}; send it as the images of the fit were"
            )
        try:
            return data.to_unit(torch.tensor(form.apply(content)))
        except InputError as error:
            return str(error)


def _size(content: bytes) -> tuple[int, int]:
    """Height and width that a file says it has; zeros when it is none that can be decoded."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.height, image.width
    except Exception:  # decoding says what is wrong
        return 0, 0
