"""Layer rules: one file for each family of layers. Importing this package registers all of them."""

from gradiometer.gradients.rules import anything, convolution, elementwise, embedding, linear, normalization
from gradiometer.gradients.rules.registry import Call, LayerRule, find_rule, layer_rule

__all__ = [
    "Call",
    "LayerRule",
    "anything",
    "convolution",
    "elementwise",
    "embedding",
    "find_rule",
    "layer_rule",
    "linear",
    "normalization",
]
