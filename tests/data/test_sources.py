from __future__ import annotations

import gzip
import io
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from gradiometer.data import load, stream
from gradiometer.errors import DependencyError, InputError

ClassFolder = tuple[Path, dict[str, NDArray[np.uint8]]]
Archive = tuple[Path, dict[str, NDArray[np.generic]]]


def first(pixels: torch.Tensor) -> NDArray[np.uint8]:
    """(N, K, H, W) -> (N, H, W, K)."""
    return pixels.permute(0, 2, 3, 1).numpy()


def test_digits_are_scikit_learns_in_eight_bits() -> None:
    digits = load("digits")
    bunch = load_digits()
    assert digits.labels is not None
    np.testing.assert_array_equal(digits.labels.numpy(), bunch.target)
    np.testing.assert_allclose(digits.images[:, 0].numpy() / 255 * 16, bunch.images, atol=16 / 255 / 2 + 1e-9)
    assert digits.classes == tuple("0123456789")
    assert len(set(digits.names)) == len(digits.groups.unique()) == 1797


def test_a_limit_is_the_same_rows_each_time_and_of_all_classes() -> None:
    once, again, full = load("digits", limit=150), load("digits", limit=150), load("digits")
    assert once.names == again.names
    assert once.labels is not None
    assert len(once) == 150
    assert len(once.labels.unique()) == 10
    for row, name in enumerate(once.names):
        assert torch.equal(once.images[row], full.images[full.names.index(name)])
    assert len(load("digits", limit=10_000)) == 1797


def test_a_folder_of_classes(class_folder: ClassFolder) -> None:
    folder, pixels = class_folder
    images = load(folder)
    assert images.names == tuple(sorted(pixels))
    assert images.classes == ("cats", "dogs")
    assert images.labels is not None
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    for row, name in enumerate(images.names):
        np.testing.assert_array_equal(first(images.images)[row], pixels[name])


def test_a_flat_folder_has_no_labels(class_folder: ClassFolder) -> None:
    flat = load(class_folder[0] / "dogs")
    assert flat.labels is None
    assert flat.classes == ()
    assert [Path(name).name for name in flat.names] == ["a.png", "b.png", "z.png"]


def test_an_empty_class_keeps_its_number(class_folder: ClassFolder) -> None:
    folder, _ = class_folder
    (folder / "birds").mkdir()
    images = load(folder)
    assert images.classes == ("birds", "cats", "dogs")
    assert images.labels is not None
    assert images.labels.unique().tolist() == [1, 2]


def test_a_folder_divided_into_splits(class_folder: ClassFolder, tmp_path: Path) -> None:
    folder, _ = class_folder
    divided = tmp_path / "divided"
    (divided / "test").mkdir(parents=True)
    folder.rename(divided / "train")
    assert load(divided, split="train").classes == ("cats", "dogs")
    with pytest.raises(InputError, match="divided into test, train; choose one"):
        load(divided)
    with pytest.raises(InputError, match=r"no sub-folder 'val' .* there are test, train"):
        load(divided, split="val")
    with pytest.raises(InputError, match="holds no images"):
        load(divided, split="test")


def test_links_in_circles_end(class_folder: ClassFolder) -> None:
    folder, _ = class_folder
    (folder / "cats" / "loop").symlink_to(folder, target_is_directory=True)
    assert len(load(folder)) == 6


def test_size_and_channels_are_those_of_pillow(class_folder: ClassFolder) -> None:
    folder, pixels = class_folder
    grey = load(folder, size=(7, 9), channels=1)
    for row, name in enumerate(grey.names):
        expected = Image.fromarray(pixels[name]).convert("L").resize((9, 7), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(grey.images[row, 0].numpy(), np.asarray(expected))
    colour = load("digits", channels=3, limit=5)
    assert torch.equal(colour.images, load("digits", limit=5).images.expand(-1, 3, -1, -1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_eight_bit_modes_are_converted_as_pillow_does(tmp_path: Path, mode: str) -> None:
    rows, columns = np.mgrid[0:6, 0:5]
    picture = Image.fromarray(np.stack([rows * 40, columns * 50, rows * columns * 8], -1).astype(np.uint8)).convert(
        mode
    )
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    picture.save(path)
    with Image.open(path) as stored:
        expected = np.asarray(stored.convert("L" if mode in ("1", "L", "LA") else "RGB"))
    images = first(load(tmp_path).images)[0]
    np.testing.assert_array_equal(images[..., 0] if images.shape[-1] == 1 else images, expected)


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    found = load(tmp_path).images[0, 0].numpy()
    np.testing.assert_allclose(found, deep / 257, atol=0.5 + 1e-9)


def test_sixteen_bits_of_which_twelve_are_used_are_warned_of_once_and_read_alike(tmp_path: Path) -> None:
    ramp = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    for name, deep in (("a", ramp), ("b", ramp // 2), ("c", 16 * ramp), ("d", 0 * ramp)):
        Image.fromarray(deep).save(tmp_path / f"{name}.png")
    for read in (lambda: load(tmp_path).images, lambda: next(stream(tmp_path, batch_size=4)).images * 255):
        with pytest.warns(UserWarning, match=f"16-bit images of {tmp_path} use little of their range") as said:
            found = read()
        assert len(said) == 1
        assert "one reaches 4095 of 65535, so that 17 grey levels or fewer" in str(said[0].message)
        assert len(found[0].unique()) == 17
        # Each image by itself, and none stretched.
        np.testing.assert_allclose(found[1, 0].numpy(), ramp // 2 / 257, atol=0.5 + 1e-4)
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path)


def test_what_a_camera_notes_beside_the_pixels_and_transparency_are_left_out(tmp_path: Path) -> None:
    pixels = np.arange(8 * 6 * 4, dtype=np.uint8).reshape(8, 6, 4)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=turned)
    np.testing.assert_array_equal(load(tmp_path).images[0].permute(1, 2, 0).numpy(), pixels[..., :3])


def test_unreadable_files_are_reported_and_the_others_kept(
    class_folder: ClassFolder, bad_files: dict[str, bytes]
) -> None:
    folder, pixels = class_folder
    for name, content in bad_files.items():
        (folder / "cats" / name).write_bytes(content)
    with pytest.warns(UserWarning, match="5 of 11 images"):
        images = load(folder)
    assert images.names == tuple(sorted(pixels))
    assert images.labels is not None
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert {Path(failure.name).name for failure in images.failures} == set(bad_files)
    reasons = {Path(failure.name).name: failure.reason for failure in images.failures}
    assert "zero bytes" in reasons["empty.png"]
    assert "not an image" in reasons["text.jpg"]
    assert "truncated" in reasons["truncated.jpg"]


def test_a_folder_without_a_readable_image(tmp_path: Path, bad_files: dict[str, bytes]) -> None:
    for name, content in bad_files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"none of the 5 images .*/empty.png: it has zero bytes"):
        load(tmp_path)


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(InputError, match=r"holds no images, only 1 other files; images are files that end in"):
        load(tmp_path)


def test_two_sizes_need_one_to_be_chosen(class_folder: ClassFolder) -> None:
    folder, _ = class_folder
    Image.new("RGB", (4, 3)).save(folder / "dogs" / "y.png")
    with pytest.raises(InputError, match=r"y.png: the image has 3 x 4 pixels where the others have 10 x 12.*size="):
        load(folder)
    assert load(folder, size=6).images.shape == (7, 3, 6, 6)


def test_an_archive(archive: Archive) -> None:
    path, arrays = archive
    train, test = load(path, split="train"), load(str(path), split="test")
    np.testing.assert_array_equal(first(train.images), arrays["train_images"])
    np.testing.assert_array_equal(first(test.images), arrays["test_images"])
    assert train.labels is not None
    assert test.labels is not None
    np.testing.assert_array_equal(train.labels.numpy(), arrays["train_labels"][:, 0])
    np.testing.assert_array_equal(test.labels.numpy(), arrays["test_labels"])
    assert train.classes == test.classes == ("0", "1", "2", "3")  # all that the archive knows
    assert train.names[3] == "pack.npz#3"


def test_groups_of_an_archive_are_tracks_in_a_class(archive: Archive) -> None:
    path, arrays = archive
    groups = load(path, split="train").groups.tolist()
    pairs = list(zip(arrays["train_labels"][:, 0], arrays["train_tracks"], strict=True))
    for one in range(20):
        for other in range(20):
            assert (groups[one] == groups[other]) == (pairs[one] == pairs[other])


def test_a_name_in_a_root(archive: Archive) -> None:
    path, _ = archive
    by_name = load("pack", root=path.parent, split="test")
    assert torch.equal(by_name.images, load("pack.npz", root=path.parent, split="test").images)


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 1)])
def test_grey_archives_and_one_split_without_a_name(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.arange(120, dtype=np.int64).reshape(shape)
    np.savez(tmp_path / "grey.npz", images=pixels)
    found = load(tmp_path / "grey.npz")
    np.testing.assert_array_equal(found.images[:, 0].numpy(), pixels.reshape(4, 5, 6))
    assert found.labels is None


def test_the_split_must_be_chosen_and_be_there(archive: Archive) -> None:
    with pytest.raises(InputError, match="has the splits train, test; choose one"):
        load(archive[0])
    with pytest.raises(InputError, match="no split 'val'; the splits that are there: train, test"):
        load(archive[0], split="val")


GOOD = np.zeros((3, 4, 4), np.uint8)
NAN = np.zeros((3, 4, 4), np.float32)
NAN[1, 2, 2] = np.nan


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": GOOD}, "has no array of images; it holds pixels"),
        ({"images": NAN}, r"NaN or infinite pixels \(1, the first in image 1\)"),
        ({"images": GOOD / 2}, "type float64 with pixels from 0 to 0; scale them to 0...255"),
        ({"images": GOOD.astype(np.int32) + 300}, "image 0 of .* has pixels from 300 to 300"),
        ({"images": GOOD.astype(np.int16) - 1}, "pixels from -1 to -1"),
        ({"images": GOOD.astype(str)}, "type <U"),
        ({"images": GOOD[0]}, r"shape \(4, 4\)"),
        ({"images": np.zeros((3, 4, 4, 2), np.uint8)}, r"shape \(3, 4, 4, 2\)"),
        ({"images": np.zeros((3, 3, 8, 8), np.uint8)}, "the channels come second; move them to the end"),
        ({"images": GOOD[:0]}, "no samples"),
        ({"images": np.asfortranarray(np.zeros((3, 4, 5), np.uint8))}, "column by column"),
        ({"images": np.array([None, None])}, "type object"),
        ({"images": GOOD, "labels": np.zeros(2, int)}, r"shape \(2,\) for 3 images"),
        ({"images": GOOD, "labels": np.zeros((3, 14), int)}, "several labels for each image"),
        ({"images": GOOD, "labels": np.zeros(3)}, "type float64"),
        ({"images": GOOD, "labels": np.array([0, -2, 0])}, "label -2"),
        (
            {"images": GOOD, "labels": np.array([0, 1, 0]), "class_names": np.array(["a"])},
            "a label is 1, but there are 1",
        ),
    ],
)
def test_bad_archives_say_what_is_wrong(tmp_path: Path, arrays: dict[str, NDArray[np.generic]], message: str) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message):
        load(path)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_truncated_archive(archive: Archive, keep: float) -> None:
    path, _ = archive
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match=r"pack.npz cannot be read .* may be truncated"):
        load(path, split="train")


def test_an_archive_that_is_broken_inside(archive: Archive) -> None:
    path, _ = archive
    content = bytearray(path.read_bytes())
    content[400:500] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"pack\.npz cannot be read"):
        load(path, split="train")


def test_an_archive_packed_in_another_way(archive: Archive) -> None:
    path, _ = archive
    content = bytearray(path.read_bytes())
    for start in [at for at in range(len(content) - 4) if content[at : at + 4] == b"PK\x01\x02"]:
        content[start + 10 : start + 12] = (9).to_bytes(2, "little")  # Deflate64, which Python cannot unpack
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="cannot be read"):
        load(path, split="train")


@pytest.mark.parametrize("key", ["train_images", "train_labels", "class_names"])
@pytest.mark.parametrize("change", [(b"'descr'", b"(descr'"), (b"{", b" "), (b"NUMPY", b"LUMPY")])
def test_a_damaged_header_of_an_array(tmp_path: Path, key: str, change: tuple[bytes, bytes]) -> None:
    arrays = {"train_images": GOOD, "train_labels": np.array([0, 1, 0]), "class_names": np.array(["a", "b"])}
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        for name, values in arrays.items():
            content = io.BytesIO()
            np.save(content, values)
            written = content.getvalue()
            archive.writestr(f"{name}.npy", written.replace(*change, 1) if name == key else written)
    with pytest.raises(InputError, match=rf"the array '{key}' of .*bad\.npz cannot be read as a plain array \("):
        load(tmp_path / "bad.npz")


def test_a_table(table: tuple[Path, list[NDArray[np.uint8]]]) -> None:
    path, pixels = table
    with pytest.warns(UserWarning, match="table.parquet#4: the row holds no image"):
        images = load(path)
    rows = [0, 1, 2, 3, 5, 6, 7, 8]
    assert images.names == tuple(f"table.parquet#{row}" for row in rows)
    np.testing.assert_array_equal(first(images.images), np.stack([pixels[row] for row in rows]))
    assert images.classes == ("ash", "elm", "oak")
    assert images.labels is not None
    assert [images.classes[label] for label in images.labels] == [["oak", "elm", "ash"][row % 3] for row in rows]


def test_bad_tables(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "bad.parquet"
    for columns, message in [
        ({"picture": [b"x"]}, "no column 'image'; its columns are picture"),
        ({"image": ["a.png"]}, "has type string; store bytes"),
        ({"image": pa.array([], pa.binary())}, "no rows"),
    ]:
        pq.write_table(pa.table(columns), path)
        with pytest.raises(InputError, match=message):
            load(path)
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        load(path)


@pytest.mark.parametrize("labels", [[0, None], [0.5, 1.0], [-1, 0]])
def test_bad_labels_of_a_table(tmp_path: Path, labels: list[object]) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    Image.new("L", (3, 3)).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    pq.write_table(pa.table({"image": [content, content], "label": labels}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="label"):
        load(tmp_path / "x.parquet")


def test_a_missing_package_names_the_extra(
    table: tuple[Path, list[NDArray[np.uint8]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DependencyError, match=r"gradiometer\[parquet\]"):
        load(table[0])


def test_a_torchvision_name(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28)).astype(np.uint8)
    labels = np.array([7, 2, 1, 0], np.uint8)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("t10k", "train"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">4B3i", 0, 0, 8, 3, *pixels.shape) + pixels.tobytes()
        )
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">4Bi", 0, 0, 8, 1, 4) + labels.tobytes())
        for kind in ("images-idx3", "labels-idx1"):
            plain = raw / f"{part}-{kind}-ubyte"
            plain.with_suffix(".gz").write_bytes(gzip.compress(plain.read_bytes()))
    images = load("MNIST", root=tmp_path, split="test")
    np.testing.assert_array_equal(images.images[:, 0].numpy(), pixels)
    assert images.labels is not None
    assert images.labels.tolist() == [7, 2, 1, 0]
    assert images.names[1] == "MNIST/test#1"


def _textures(root: Path) -> Path:
    """Torchvision's DTD with three images; where they are."""
    folder = root / "dtd" / "dtd"
    names = ["banded/0.png", "banded/1.png", "woven/0.png"]
    for number, name in enumerate(names):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (40 * number, 0, 0)).save(path)
    (folder / "labels").mkdir()
    (folder / "labels" / "test1.txt").write_text("\n".join(names))
    return folder / "images"


def _signs(root: Path) -> Path:
    """Torchvision's GTSRB with three images; where they are."""
    folder = root / "gtsrb" / "GTSRB" / "Final_Test" / "Images"
    folder.mkdir(parents=True)
    lines = ["Filename;ClassId"]
    for number, label in enumerate([0, 0, 1]):
        Image.new("RGB", (4, 4), (40 * number, 0, 0)).save(folder / f"{number}.ppm")
        lines.append(f"{number}.ppm;{label}")
    (root / "gtsrb" / "GT-final_test.csv").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize(("name", "make", "broken"), [("DTD", _textures, "banded/1.png"), ("GTSRB", _signs, "1.ppm")])
def test_labels_of_torchvision_need_no_image(
    tmp_path: Path, name: str, make: Callable[[Path], Path], broken: str
) -> None:
    (make(tmp_path) / broken).write_bytes(b"no image")
    with pytest.warns(UserWarning, match="1 of 3 images"):
        images = load(name, root=tmp_path, split="test")
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1]
    assert images.failures[0].name == f"{name}/test#1"


def test_torchvision_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="say which one with root="):
        load("SVHN", split="test")
    with pytest.raises(InputError, match="SVHN needs a split; choose one of train, test, extra"):
        load("SVHN", root=tmp_path)
    with pytest.raises(InputError, match="has no split 'val'"):
        load("CIFAR10", root=tmp_path, split="val")
    with pytest.raises(InputError, match=r"CIFAR10 \(test\) is not complete .* download=True"):
        load("CIFAR10", root=tmp_path, split="test")


def test_an_unknown_name_suggests(archive: Archive) -> None:
    with pytest.raises(InputError, match=r"unknown data source 'packs'.* did you mean pack\?.*digits, torchvision's"):
        load("packs", root=archive[0].parent)
    with pytest.raises(InputError, match="did you mean CIFAR10"):
        load("cifar-10")
    with pytest.raises(InputError, match=r"there is no file nowhere\.npz"):
        load("nowhere.npz")
    with pytest.raises(InputError, match=r"for the part 'train' of .*npz give split='train'\. Understood are"):
        load(f"{archive[0]}:train")
    with pytest.raises(InputError, match=r"not a known name\. Understood are"):
        load("nothing of the kind")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "train"}, "digits have no split 'train'"),
        ({"channels": 2}, "channels must be 1 .* got 2"),
        ({"size": 0}, "size is 0; give a whole number of 1 or more"),
        ({"size": (1, 2, 3)}, "size is .1, 2, 3.; give a height and a width"),
        ({"size": 8.0}, "size is 8.0; give a whole number"),
        ({"limit": 0}, "limit is 0; give a whole number of 1 or more"),
    ],
)
def test_bad_arguments(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load("digits", **arguments)


def test_real_data_is_what_numpy_reads(data_root: Path) -> None:
    for name, split in [("retina_mnist", "val"), ("mnist", "test"), ("oct_srf", "test")]:
        images = load(name, root=data_root, split=split)
        with np.load(data_root / f"{name}.npz") as arrays:
            expected = arrays[f"{split}_images"]
            classes = tuple(arrays["class_names"].tolist())
        np.testing.assert_array_equal(first(images.images).reshape(expected.shape), expected)
        assert images.classes == classes


def test_labels_that_are_no_classes_are_refused_before_memory_runs_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 4, 4), np.uint8), labels=np.array([0, 1, 2**40]))
    with pytest.raises(InputError, match=r"reach 1099511627776; give classes from 0, below 100000"):
        load(tmp_path / "a.npz")
