"""Gradients in the memory order of what they are gradients of, where PyTorch needs that and does not see to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from gradiometer.gradients.state import modules_of


@contextmanager
def ordered(model: nn.Module, batch: int) -> Iterator[None]:
    """Have batch and instance norms get their gradients in the order of their outputs, in passes that begin here.

    In a batch of one image channels may come first or last in memory, and PyTorch takes one order for another where
    those of image and gradient differ, as they do when tokens are made of the channels (2.14, on CPU). All gradients of
    the norm, and of what lies before it, are then wrong, and nothing says so.

    Args:
        model: The model; its hooks are as they were afterwards.
        batch: How many samples it gets; with more than one all is well.
    """
    concerned = batch == 1 and torch.is_grad_enabled()
    norms = [module for module in modules_of(model) if isinstance(module, _NormBase)] if concerned else []
    hooks = [module.register_forward_hook(_in_order_of_output) for module in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _in_order_of_output(_module: nn.Module, _args: Any, output: Any) -> None:
    if not isinstance(output, Tensor) or not output.requires_grad:
        return
    shape, strides = output.shape, output.stride()

    def reordered(gradient: Tensor) -> Tensor:
        if gradient.stride() == strides:
            return gradient
        return gradient.new_empty_strided(shape, strides).copy_(gradient)

    output.register_hook(reordered)
