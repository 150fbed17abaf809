"""A small convolutional network that reads digits, for the examples that look into one."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping

from torch import nn

from gradiometer import data, models


def network(parts: Mapping[str, data.Images], epochs: int) -> tuple[nn.Module, float]:
    """Train a network on some digits, and measure it on others.

    Args:
        parts: The images `known` and `test`, with labels.
        epochs: Passes over the known ones.

    Returns:
        The network in evaluation mode, and its accuracy on the test images.
    """
    recipe = models.Recipe(epochs=epochs, batch_size=64, learning_rate=0.05, augment="crop")
    with tempfile.TemporaryDirectory() as folder:
        record = models.train_to_file("digits-cnn", parts["known"], parts["test"], folder, recipe)
        return models.load(folder), record["test_accuracy"]
