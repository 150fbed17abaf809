"""Leave the user's model as it was found."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from gradiometer.errors import ModelError

_LOCKS: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_LOCKING = threading.Lock()


def exclusive(model: nn.Module) -> threading.RLock:
    """The lock under which a model is read: flags and hooks are set on it meanwhile, by one thread at a time."""
    with _LOCKING:
        return _LOCKS.setdefault(model, threading.RLock())


def plain(model: nn.Module) -> nn.Module:
    """The module that was written, of one that `torch.compile` has wrapped."""
    written: nn.Module = getattr(model, "_orig_mod", model)
    return written


def modules_of(model: nn.Module) -> list[nn.Module]:
    """All modules of a model, in no particular order; several times as fast as `modules()`."""
    found = {id(model): model}
    waiting = [model]
    while waiting:
        for child in waiting.pop()._modules.values():
            if child is not None and id(child) not in found:
                found[id(child)] = child
                waiting.append(child)
    return list(found.values())


def uncompiled(model: nn.Module) -> AbstractContextManager[Any]:
    """Run the modules of a model as they are written, where some of them were compiled.

    Compiled code does not call the operations one by one, so that nothing could be read from them.
    """
    if any(module._compiled_call_impl is not None for module in modules_of(model)):
        stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()


@contextmanager
def uncached(model: nn.Module) -> Iterator[None]:
    """Have modules find again what they keep of parameters from one pass to the next, in dicts named `..._cache`.

    Attention in the manner of LeViT keeps its biases so. They come with the history of an earlier pass, which cannot be
    sent back twice, or without any, as if they were constants.
    """
    kept = [
        (vars(module), name, value)
        for module in modules_of(model)
        for name, value in vars(module).items()
        if type(value) is dict and name.endswith("_cache")
    ]
    for attributes, name, _ in kept:
        attributes[name] = {}
    try:
        yield
    finally:
        for attributes, name, value in kept:
            attributes[name] = value


def scripted(model: nn.Module) -> str:
    """A hint, for errors about what a model does not show, if it is TorchScript or holds some; empty otherwise."""
    if not any(isinstance(module, torch.jit.ScriptModule) for module in modules_of(model)):
        return ""
    return "; TorchScript does not show its operations: give the torch.nn.Module that it was made from"


def check_tracked(model: nn.Module) -> None:
    """Refuse weights and buffers of which autograd keeps no track.

    Raises:
        ModelError: If one was made in inference mode.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_inference():
            raise ModelError(
                f"{name!r} of the model was made under torch.inference_mode(), where nothing can be differentiated; "
                "build or load the model outside of it, or give copy.deepcopy(model), made outside of it"
            )


@contextmanager
def doubled(model: nn.Module) -> Iterator[None]:
    """Run a model in float64 for a while; afterwards it has its own tensors back, untouched."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point()}
    kept = [(tensor, tensor.data) for tensor in tensors.values()]
    try:
        for tensor, values in kept:
            tensor.data = values.double()
        yield
    finally:
        for tensor, values in kept:
            tensor.data = values


@contextmanager
def left_as_found(model: nn.Module, differentiated: Iterable[Tensor]) -> Iterator[None]:
    """Let some parameters require gradients, and restore flags, buffers and random state afterwards.

    Gradients are enabled inside, also under `torch.no_grad()` and `torch.inference_mode()`. Other threads that want the
    same wait.

    Args:
        model: The model.
        differentiated: The parameters that are to require gradients; no other parameter does meanwhile.
    """
    with exclusive(model), _restored(model, differentiated):
        yield


@contextmanager
def buffers_as_found(model: nn.Module) -> Iterator[None]:
    """Restore the buffers of a model afterwards: the tensors, and what is in those that PyTorch tracks.

    Args:
        model: The model, which no other thread reads meanwhile; see `exclusive`.
    """
    held = [(module, dict(module._buffers.items())) for module in modules_of(model)]
    # PyTorch does not track tensors of inference mode, so that nobody knows whether they were written into.
    tracked = (each for each in _different(found for _, found in held) if not each.is_inference())
    buffers = [(each, each._version, each.detach().clone()) for each in tracked]
    try:
        yield
    finally:
        for module, found in held:
            _put_back(module, found)
        for buffer, version, value in buffers:
            if buffer._version != version:
                buffer.detach().copy_(value)


@contextmanager
def _restored(model: nn.Module, differentiated: Iterable[Tensor]) -> Iterator[None]:
    """The same as `left_as_found` for a thread that is alone with the model."""
    chosen = {id(parameter) for parameter in differentiated}
    flags = [(each, each.requires_grad) for each in _different(module._parameters for module in modules_of(model))]
    devices = sorted({tensor.device.index or 0 for tensor, _ in flags if tensor.device.type == "cuda"})
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng(devices),
        buffers_as_found(model),
    ):
        try:
            for parameter, flag in flags:
                if flag != (id(parameter) in chosen):
                    parameter.requires_grad_(not flag)
            yield
        finally:
            for parameter, flag in flags:
                if parameter.requires_grad != flag:
                    parameter.requires_grad_(flag)


def _put_back(module: nn.Module, found: Mapping[str, Tensor | None]) -> None:
    """Let a module hold the buffers that were found in it."""
    if isinstance(module, torch.jit.ScriptModule):  # it shows its buffers in no dict of Python
        for name, buffer in found.items():
            if getattr(module, name) is not buffer:
                setattr(module, name, buffer)
        return
    places = module._buffers
    if any(places.get(name) is not buffer for name, buffer in found.items()) or len(places) != len(found):
        places.clear()
        places.update(found)


def _different(tensors: Iterable[Mapping[str, Tensor | None]]) -> list[Tensor]:
    """The tensors that modules hold, each once."""
    return list({id(tensor): tensor for held in tensors for tensor in held.values() if tensor is not None}.values())
