"""Every form of a source gives the same batches, and what cannot be used is refused with a reason."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gradiometer.detectors.fingerprints import fingerprints
from gradiometer.detectors.inputs import batches
from gradiometer.errors import InputError

PIXELS = torch.randint(0, 256, (23, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = PIXELS.float() / 255
LABELS = torch.arange(23) % 5


def sources():
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=7)
    return {
        "tensor": (IMAGES, False),
        "bytes": (PIXELS, False),
        "bytes with labels": ((PIXELS.numpy(), LABELS), True),
        "array": (IMAGES.numpy(), False),
        "pair": ((IMAGES, LABELS), True),
        "pair with a column of labels": ((IMAGES, LABELS[:, None].numpy()), True),
        "loader": (loader, True),
        "data set": (TensorDataset(IMAGES, LABELS), True),
        "list of tensors": (list(IMAGES.split(4)), False),
        "generator": (((part, None) for part in IMAGES.split(9)), False),
        "images": (SimpleNamespace(images=PIXELS.numpy(), labels=LABELS.numpy(), groups=np.arange(23)), True),
        "stream": ([SimpleNamespace(images=part, names=()) for part in IMAGES.split(11)], False),
    }


@pytest.mark.parametrize("form", sources())
def test_every_form_gives_the_same_batches(form):
    source, labelled = sources()[form]
    found = list(batches(source, 10, "images"))
    assert [len(batch) for batch in found] == [10, 10, 3]
    assert torch.equal(torch.cat([batch.inputs for batch in found]), IMAGES)
    if labelled:
        assert np.concatenate([batch.labels for batch in found]).tolist() == LABELS.tolist()
    else:
        assert all(batch.labels is None for batch in found)


def test_several_inputs_stay_together():
    first, second = torch.arange(12.0).view(6, 2), torch.arange(6)
    for source in (
        {"first": first, "second": second},
        [{"first": first[:5], "second": second[:5]}, {"first": first[5:], "second": second[5:]}],
    ):
        found = list(batches(source, 4, "images"))
        assert [len(batch) for batch in found] == [4, 2]
        assert torch.equal(torch.cat([batch.inputs["first"] for batch in found]), first)
        assert torch.equal(torch.cat([batch.inputs["second"] for batch in found]), second)
    (whole,) = batches(((first, second), LABELS[:6]), 10, "images")
    assert isinstance(whole.inputs, tuple)
    assert torch.equal(whole.inputs[1], second)


def test_groups_are_kept_only_when_all_parts_have_them():
    part = SimpleNamespace(images=PIXELS[:4], labels=None, groups=torch.arange(4))
    assert next(batches([part, part], 8, "images")).groups.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert next(batches([part, PIXELS[:4]], 8, "images")).groups is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (IMAGES[:0], "no sample among the known images"),
        ([], "no sample among the known images"),
        ("folder/of/images", "gradiometer.data.load reads"),
        (None, "the known images are None"),
        (3.5, "type float"),
        ((IMAGES, LABELS, LABELS), "tuple of 3 items"),
        ((IMAGES, LABELS[:5]), r"shape \(5,\) for 23 images"),
        ((IMAGES, LABELS.float()), "one integer for each image"),
        ((IMAGES, torch.zeros(23, 5).long()), r"shape \(23, 5\)"),
        ([IMAGES, IMAGES[:, :, :3]], r"different shapes or types: \(3, 3, 4\), \(3, 4, 4\)"),
        ({"first": IMAGES, "second": IMAGES[:3]}, "others have 23 rows"),
        (torch.tensor(1.0), "single number"),
        ((["one", "two"], None), "a str where a tensor belongs"),
    ],
)
def test_unusable_sources_are_refused(source, message):
    with pytest.raises(InputError, match=message):
        list(batches(source, 50, "known images"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named_by_row(value):
    images = IMAGES.clone()
    images[13, 1, 2, 3] = images[20, 0, 0, 0] = value
    with pytest.raises(InputError, match=r"NaN or infinite values in 2 row\(s\) \(13, 20\)"):
        list(batches(images, 4, "inputs"))
    with pytest.raises(InputError, match=r"in 1 row\(s\) \(13\)"):
        list(batches(list(images.split(7)), 4, "inputs"))


def test_fingerprints_tell_images_apart_and_not_their_storage():
    found = fingerprints(IMAGES)
    assert len(np.unique(found)) == 23
    # 1 / 255 is not a float32, so these two ways to come to [0, 1] differ in the last bit.
    other = PIXELS.float() * torch.tensor(1 / 255)
    assert not torch.equal(other, IMAGES)
    assert np.array_equal(found, fingerprints(other))
    assert np.array_equal(found[5:9], fingerprints(IMAGES[5:9]))
    changed = PIXELS.clone()
    changed[4, 2, 1, 1] ^= 1
    assert np.flatnonzero(found != fingerprints(changed.float() / 255)).tolist() == [4]


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e-3, 0.02, 300.0, 4e4, 1e12])
def test_fingerprints_tell_rows_of_any_scale_apart(scale):
    values = torch.rand(200, 12, generator=torch.Generator().manual_seed(0)) * scale
    found = fingerprints(values)
    assert len(set(found.tolist())) == 200
    assert np.array_equal(found, fingerprints(values.clone()))
    assert np.array_equal(found, fingerprints(values.double()))


def test_fingerprints_of_dark_images_do_not_depend_on_their_storage():
    pixels = torch.tensor([[0, 0, 0], [0, 1, 0], [1, 2, 255]], dtype=torch.uint8)
    assert np.array_equal(fingerprints(pixels.float() / 255), fingerprints(pixels.double().mul(1 / 255)))


def test_a_data_set_of_images_alone_comes_from_a_loader():
    loader = DataLoader(TensorDataset(IMAGES), batch_size=8)
    found = list(batches(loader, 8, "inputs"))
    assert [len(batch) for batch in found] == [8, 8, 7]
    assert all(batch.labels is None for batch in found)
    assert torch.equal(torch.cat([batch.inputs for batch in found]), IMAGES)
