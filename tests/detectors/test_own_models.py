"""Detectors on models that are no classifiers of images: named tensors of text, and one logit for two classes."""

from __future__ import annotations

from collections import UserDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from gradiometer import MSP, Gradiometer, Guard, InputError, ModelError, OneLogit, Purview, detectors
from gradiometer.detectors import Control, ViM
from gradiometer.detectors.inputs import batches


class Text(nn.Module):
    """A transformer over tokens in the manner of Hugging Face: logits by name, and labels among its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(30, 8, padding_idx=0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)
        self.seen_labels = False

    def forward(self, input_ids, attention_mask, labels=None):
        self.seen_labels |= labels is not None
        hidden = self.encoder(self.tokens(input_ids), src_key_padding_mask=attention_mask == 0)
        return {"logits": self.head(hidden[:, 0])}


class Sentences(Dataset):
    def __len__(self) -> int:
        return 80

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: values[index] for name, values in tokenized().items()}


def tokenized() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 30, (120, 6), generator=draw)
    tokens[::3, 4:] = 0
    return {"input_ids": tokens, "attention_mask": (tokens > 0).long(), "labels": tokens[:, 0] % 3}


def named(start: int, stop: int, *, labels: bool = True) -> UserDict[str, torch.Tensor]:
    """What a tokenizer of Hugging Face returns is such a UserDict, and no dict."""
    return UserDict({k: v[start:stop] for k, v in tokenized().items() if labels or k != "labels"})


@pytest.fixture
def text() -> Text:
    torch.manual_seed(0)
    return Text().eval()


def test_labels_among_named_tensors_are_labels_and_no_input():
    (batch,) = batches(named(0, 9), 16, "known images")
    assert isinstance(batch.inputs, dict)
    assert set(batch.inputs) == {"input_ids", "attention_mask"}
    assert batch.labels.tolist() == tokenized()["labels"][:9].tolist()
    (batch,) = batches({"input_ids": tokenized()["input_ids"][:9], "label": torch.arange(9)}, 16, "known images")
    assert set(batch.inputs) == {"input_ids"}
    assert batch.labels.tolist() == list(range(9))
    (batch,) = batches(named(0, 9, labels=False), 16, "inputs")
    assert batch.labels is None
    # A model that takes an input of this name gets it when the labels are said to be elsewhere.
    (batch,) = batches((dict(named(0, 9)), None), 16, "inputs")
    assert "labels" in batch.inputs
    assert batch.labels is None


def test_single_rows_are_sent_to_a_loader(text):
    with pytest.raises(InputError, match="goes into a DataLoader"):
        Purview(text, output="logits").fit([Sentences()[row] for row in range(40)])


@pytest.mark.parametrize("kind", [MSP, Purview, Control, Guard])
def test_the_life_of_a_detector_on_text(kind, text, tmp_path):
    detector = kind(text, output="logits")
    detector.fit(DataLoader(Sentences(), batch_size=16)) if detector.requires_fit else None
    detector.calibrate(named(80, 120), 0.1)
    verdict = detector.judge(named(0, 5))
    assert verdict.scores.tolist() == detector.predict(dict(named(0, 5, labels=False))).tolist()
    with torch.no_grad():
        inputs = dict(named(0, 5, labels=False))
        assert verdict.predictions.tolist() == text(**inputs)["logits"].argmax(1).tolist()
    assert not text.seen_labels
    detector.save(tmp_path / "text.safetensors")
    again = kind.load(tmp_path / "text.safetensors", text)
    assert again.judge(named(0, 5)).p_values.tolist() == verdict.p_values.tolist()


def test_the_instrument_takes_what_a_tokenizer_gives(text):
    found = Gradiometer(text, output="logits").squared_norms(named(0, 4, labels=False))
    for row in range(4):
        text.zero_grad()
        logits = text(**named(row, row + 1, labels=False))["logits"]
        nn.functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)).backward()
        expected = [parameter.grad.square().sum() for parameter in text.parameters()]
        assert torch.allclose(found.values[row].float(), torch.stack(expected), rtol=1e-4, atol=1e-12)


@pytest.fixture
def binary() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).eval()


ROWS = torch.randn(160, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", [MSP, Purview, Control, Guard])
def test_one_logit_is_two_classes(kind, binary, tmp_path):
    labels = (ROWS[:, 0] > 0).long()
    detector = kind(binary, output=OneLogit())
    if detector.requires_fit:
        detector.fit((ROWS[:100], labels[:100]))
    verdict = detector.calibrate(ROWS[100:150], 0.1).judge(ROWS[150:])
    with torch.no_grad():
        probability = binary(ROWS[150:]).sigmoid().flatten().numpy()
    assert np.allclose(verdict.confidences, np.maximum(probability, 1 - probability), atol=1e-6)
    assert verdict.predictions.tolist() == (probability > 0.5).astype(int).tolist()
    # The file says where the logits are, so that nothing has to be given again.
    detector.save(tmp_path / "binary.safetensors")
    again = detectors.load(tmp_path / "binary.safetensors", binary)
    assert again.predict(ROWS[150:]).tolist() == verdict.scores.tolist()
    assert kind is MSP or "OneLogit" in repr(detector)


def test_gradients_under_one_logit_are_those_of_the_pair(binary):
    found = Gradiometer(binary, output=OneLogit()).squared_norms(ROWS[:3]).values
    for row in range(3):
        binary.zero_grad()
        logit = binary(ROWS[row : row + 1])
        pair = torch.cat([torch.zeros_like(logit), logit], 1)
        nn.functional.binary_cross_entropy_with_logits(pair, torch.ones_like(pair)).backward()
        expected = torch.stack([parameter.grad.square().sum() for parameter in binary.parameters()])
        assert torch.allclose(found[row].float(), expected, rtol=1e-5)


def test_one_logit_is_found_by_name_and_refuses_more():
    assert OneLogit("score")({"score": torch.tensor([3.0, -1.0])}).tolist() == [[0, 3], [0, -1]]
    with pytest.raises(ModelError, match=r"one logit for each sample, \(B,\) or \(B, 1\), got \(4, 2\)"):
        OneLogit()(torch.zeros(4, 2))
    with pytest.raises(ModelError, match="got a dict"):
        OneLogit()({"score": torch.zeros(4)})
    with pytest.raises(ModelError, match=r"output='odds' is not in what the model returns, a dict with 'score'"):
        OneLogit("odds")({"score": torch.zeros(4)})


def test_a_single_logit_is_told_what_to_do(binary):
    for read in (Gradiometer(binary).squared_norms, Purview(binary).fit, MSP(binary).predict):
        with pytest.raises(ModelError, match=r"one logit of a binary classifier give output=gradiometer\.OneLogit\(\)"):
            read(ROWS)
    with pytest.raises(ModelError, match="not the output of the last linear layer"):
        ViM(binary, output=OneLogit()).fit(ROWS)
