"""Networks of transformers and timm, with random weights: readings are those of the loop, and nothing is left to it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradiometer import Gradiometer
from tests.zoo import Inputs, call, select

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_labels": 3,
}
WORDS = {**SMALL, "vocab_size": 100, "max_position_embeddings": 64}
ROPE = {**WORDS, "num_key_value_heads": 2, "pad_token_id": 0}
PIXELS = {**SMALL, "image_size": 32, "patch_size": 8}

TEXTS: dict[str, dict[str, Any]] = {
    "Bert": WORDS,
    "Roberta": {**WORDS, "pad_token_id": 0},
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 100, "num_labels": 3},
    "Albert": {**WORDS, "embedding_size": 16},  # its layers share their weights
    "Electra": {**WORDS, "embedding_size": 16},
    "ModernBert": {**WORDS, "pad_token_id": 0, "global_attn_every_n_layers": 2, "local_attention": 8},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100, "num_labels": 3, "pad_token_id": 0},
    "Llama": ROPE,
    "Qwen2": ROPE,
    "Mistral": {**ROPE, "sliding_window": 8},
    "Gemma": {**ROPE, "head_dim": 8},
}
IMAGES: dict[str, dict[str, Any]] = {
    "ViT": PIXELS,
    "Dinov2": PIXELS,
    "Swin": {
        "image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4,
        "num_labels": 3,
    },
    "ConvNext": {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "num_labels": 3},
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic", "num_labels": 3},
}  # fmt: skip
TIMM = (
    "convnextv2_atto", "edgenext_xx_small", "efficientformer_l1", "efficientvit_m0", "ghostnet_050", "mambaout_femto",
    "mobilenetv4_conv_small", "poolformer_s12", "repvit_m0_9", "xcit_nano_12_p16_224",
)  # fmt: skip


def squares(model: nn.Module, inputs: Inputs, output: str | None) -> Tensor:
    """Squared norms of the gradients of each sample, (B, T), through one graph of the whole batch."""
    logits = select(call(model, inputs), output)
    rows = []
    for row in range(len(logits)):
        loss = functional.binary_cross_entropy_with_logits(logits[row], torch.ones_like(logits[row]))
        found = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
        rows.append(torch.stack([loss.new_zeros(()) if each is None else each.square().sum() for each in found]))
    return torch.stack(rows)


def check(model: nn.Module, inputs: Inputs, *, output: str | None = None) -> None:
    """Compare all readings with the gradients of each sample, in float64."""
    with torch.no_grad():
        for parameter in model.parameters():
            # As built, some networks ignore their samples: scales of zero, and signals that die out on the way.
            parameter.add_(torch.rand(parameter.shape, dtype=parameter.dtype) * 0.1 - 0.05)
    meter = Gradiometer(model, output=output)
    found = meter.squared_norms(inputs).values.double()
    expected = squares(model, inputs, output)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-9 * expected.max().item())
    assert "loop" not in {line.path for line in meter.plan(inputs).lines}


@pytest.mark.parametrize("kind", [*TEXTS, *IMAGES])
def test_classifiers_of_transformers(kind: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (make install-peers)")
    task = "ForSequenceClassification" if kind in TEXTS else "ForImageClassification"
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**(TEXTS | IMAGES)[kind])
    model = getattr(transformers, f"{kind}{task}")(config).double().eval()
    if kind in IMAGES:
        inputs = {"pixel_values": torch.rand(3, 3, 32, 32, dtype=torch.float64)}
    else:
        words = torch.randint(3, 100, (4, 10))
        words[1, 7:] = 0
        inputs = {"input_ids": words, "attention_mask": (words > 0).long()}
    check(model, inputs, output="logits")


@pytest.mark.parametrize("name", TIMM)
def test_networks_of_timm(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = timm.create_model(name, num_classes=5, **({"img_size": 96} if name.startswith("xcit") else {}))
    side = 224 if name.startswith("efficientformer") else 96
    check(model.double().eval(), torch.rand(2, 3, side, side, dtype=torch.float64))
