"""Images with what is known about each, in the layouts in which data sets are released."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gradiometer import data
from gradiometer.data import olives_hub
from gradiometer.data.cohort import Cohort
from gradiometer.data.olives import BIOMARKERS
from gradiometer.data.tables import read_table
from gradiometer.errors import DependencyError, InputError
from tests.data import miniatures


def blank(count: int, **given: object) -> Cohort:
    return Cohort(data.Images.of(torch.zeros(count, 1, 4, 4, dtype=torch.uint8)), {}, **given)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return miniatures.olives(tmp_path_factory.mktemp("olives"))


class TestOlives:
    def test_the_released_split_has_its_columns_under_short_names(self, root: Path) -> None:
        train = data.load_cohort(root, split="train1")
        assert len(train) == 30
        assert tuple(BIOMARKERS) == ("IRF", "DME", "IRHRF", "FAVF", "PAVF")
        assert not any(np.isnan(train.column(name)).all() for name in BIOMARKERS)
        assert np.array_equal(train.column("IRF"), train.column("Fluid (IRF)"))
        assert np.array_equal(train.column("PAVF"), train.column("Partially attached vitreous face"))
        # "CST " with a blank in the title, as in some of the released tables
        assert train.column("CST")[:3].tolist() == [250, 260, 270]
        assert np.isnan(train.column("BCVA")).sum() == 6

    def test_patient_leak_of_split_1_is_found(self, root: Path) -> None:
        train, test = (data.load_cohort(root, split=part) for part in ("train1", "test1"))
        assert data.shared_patients(train, test) == ("203",)

    def test_biomarkers_belong_to_their_scans(self, root: Path) -> None:
        train = data.load_cohort(root, split="train1")
        # The miniature draws the first of the five biomarkers as a block in the second row of pixels.
        brightness = train.images.images[:, 0, 1, 2:8].float().mean(1).numpy()
        assert (brightness[train.column("IRF") == 1].min()) > (brightness[train.column("IRF") == 0].max())

    def test_absolute_paths_of_another_machine_are_understood(self, root: Path) -> None:
        balanced = data.load_cohort(root, split="test1_IRF")
        assert len(balanced) == 12
        assert balanced.images.names[0].startswith("/data/Datasets/TREX DME/")
        assert not balanced.images.failures

    def test_a_scan_is_found_under_its_other_ending(self, root: Path) -> None:
        pool = data.load_cohort(root, split="pool1")
        stored = [name for name in pool.images.names if "01-001" in name]
        assert len(stored) == 6
        assert all(name.endswith(".tif") for name in stored)

    def test_a_pool_that_numbers_eyes_still_knows_its_patients(self, root: Path) -> None:
        pool, test = (data.load_cohort(root, split=part) for part in ("pool1", "test1"))
        assert data.shared_patients(pool, test) == ("203",)

    def test_all_labelled_scans_divide_by_patient(self, root: Path) -> None:
        everything = data.load_cohort(root)
        parts = everything.divide({"train": 0.6, "test": 0.4})
        assert len(parts["train"]) + len(parts["test"]) == len(everything) == 48
        assert data.shared_patients(parts["train"], parts["test"]) == ()
        # both eyes of patient 203 are one base image
        assert (
            len({int(g) for g, p in zip(everything.images.groups, everything.patients, strict=True) if p == "203"}) == 1
        )

    def test_a_missing_scan_is_a_reported_row(self, tmp_path: Path) -> None:
        root = miniatures.olives(tmp_path)
        next((root / "OLIVES" / "Prime_FULL" / "02-008").rglob("3.tif")).unlink()
        with pytest.warns(UserWarning, match="1 of 30 images"):
            train = data.load_cohort(root, split="train1")
        assert len(train) == 29
        assert train.images.failures[0].name == "/Prime_FULL/02-008/W0/OD/3.tif"

    @pytest.mark.parametrize(
        ("part", "message"),
        [
            ("train4", "no part 'train4'"),
            ("train1_IRF", "no part"),
            ("train2", "has no final_csvs_2"),
            ("test1_DME", "test_DRT_ME"),
        ],
    )
    def test_what_is_not_there_is_named(self, root: Path, part: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            data.load_cohort(root, split=part)


class TestHub:
    def test_shards_give_biomarkers_and_patients(self, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        root = miniatures.hub(tmp_path)
        cohort = data.load_cohort(olives_hub.HUB, root=root)
        assert len(cohort) == 16  # a fifth of the scans has no biomarkers
        assert not any(np.isnan(cohort.column(name)).all() for name in BIOMARKERS)
        assert set(cohort.patients or ()) == {"200", "201"}
        assert cohort.images.names[8] == "train-00001-of-00002.parquet#1"
        brightness = cohort.images.images[:, 0, 1, 2:8].float().mean(1).numpy()
        assert (brightness[cohort.column("IRF") == 1].min()) > (brightness[cohort.column("IRF") == 0].max())
        everything = olives_hub.load_hub(root / "OLIVES_Dataset", labelled=False)
        assert len(everything) == 20
        assert math.isnan(everything.column("BCVA")[0])

    def test_a_missing_scan_is_a_row_with_the_reason_and_a_damaged_shard_an_error(self, tmp_path: Path) -> None:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        root = miniatures.hub(tmp_path)
        shard = next((root / "OLIVES_Dataset").rglob("*.parquet"))
        table = pq.read_table(shard)
        scans = [None, *table.column("Image").to_pylist()[1:]]
        column = pa.array(scans, type=table.schema.field("Image").type)
        pq.write_table(table.set_column(table.schema.get_field_index("Image"), "Image", column), shard)
        with pytest.warns(UserWarning, match="1 of 20 images"):
            found = olives_hub.load_hub(root / "OLIVES_Dataset", labelled=False)
        assert f"{shard.name}#0" not in found.images.names
        shard.write_bytes(shard.read_bytes()[:200])
        with pytest.raises(InputError, match="cannot be read as Parquet"):
            olives_hub.load_hub(root / "OLIVES_Dataset", labelled=False)

    def test_a_mirror_that_is_not_there_is_not_fetched_unasked(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="download=True"):
            data.load_cohort(olives_hub.HUB, root=tmp_path)

    def test_fetching_puts_the_mirror_where_it_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hub = pytest.importorskip("huggingface_hub")

        def fetched(name: str, *, repo_type: str, local_dir: Path, allow_patterns: list[str]) -> str:
            assert (name, repo_type, allow_patterns) == (olives_hub.HUB, "dataset", ["disease_classification/*"])
            miniatures.hub(local_dir.parent)
            return str(local_dir)

        monkeypatch.setattr(hub, "snapshot_download", fetched)
        assert len(data.load_cohort(olives_hub.HUB, root=tmp_path, download=True)) == 16

    def test_fetching_without_the_extra_names_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
        with pytest.raises(DependencyError, match=r"gradiometer\[olives\]"):
            olives_hub.fetch(tmp_path)


class TestOthers:
    def test_kermany_has_classes_and_patients(self, tmp_path: Path) -> None:
        root = miniatures.kermany(tmp_path) / "OCT2017"
        train, test = (data.load_cohort(root, split=part) for part in ("train", "test"))
        assert train.images.classes == ("CNV", "DME", "DRUSEN", "NORMAL")
        assert len(set(train.patients or ())) == 8
        assert data.shared_patients(train, test) == ("1001667", "1001677", "1001687", "1001697")
        assert np.bincount(train.column("class").astype(int)).tolist() == [6, 6, 6, 6]

    def test_medmnist_has_its_labels_and_no_patients(self, tmp_path: Path) -> None:
        images = np.zeros((5, 28, 28, 3), np.uint8)
        np.savez(tmp_path / "retina.npz", train_images=images, train_labels=np.array([[0], [1], [4], [2], [0]]))
        cohort = data.load_cohort(tmp_path / "retina.npz", split="train")
        assert cohort.patients is None
        assert cohort.labels("class").tolist() == [0, 1, 3, 2, 0]
        assert cohort.labels("image").tolist() == [0, 1, 2, 3, 4]

    def test_a_folder_and_a_table_give_what_the_table_names(self, tmp_path: Path) -> None:
        for name in ("a/1.png", "b/1.png", "b/2.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.new("L", (6, 6), 9).save(tmp_path / name)
        rows = "file,grade,patient\nb/1.png,2,anna\na/1.png,,ben\n"
        table = write(tmp_path / "t.csv", rows)
        with pytest.warns(UserWarning, match=r"1 of the images .* are left out, such as .*b/2\.png"):
            cohort = data.load_cohort(tmp_path, table=table)
        assert cohort.images.names == ("b/1.png", "a/1.png")
        assert cohort.patients == ("anna", "ben")
        assert cohort.labels("grade").tolist() == [0, -1]
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing is left out, so nothing is said
            assert len(data.load_cohort(tmp_path, table=write(table, f"{rows}x/b/2.png,1,ben\n"))) == 3

    def test_a_table_adds_columns_to_an_archive(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", images=np.zeros((3, 8, 8), np.uint8), labels=np.array([0, 1, 0]))
        table = write(tmp_path / "t.csv", "name,label\nx.npz#2,7\nx.npz#0,3\n")
        cohort = data.load_cohort(tmp_path / "x.npz", table=table)
        assert cohort.labels("label").tolist() == [0, -1, 1]
        assert cohort.column("class").tolist() == [0, 1, 0]


class TestTable:
    def test_parquet_and_csv_say_the_same(self, tmp_path: Path) -> None:
        pa = pytest.importorskip("pyarrow")
        pq = pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"file": ["a", "b"], "score": [1.5, None], "patient": [3, 4]}), tmp_path / "t.parquet")
        write(tmp_path / "t.csv", "file,score,patient\na,1.5,3\nb,,4\n")
        first, second = (read_table(tmp_path / f"t.{ending}") for ending in ("parquet", "csv"))
        assert first.names == second.names == ("a", "b")
        assert first.patients == second.patients == ("3", "4")
        np.testing.assert_array_equal(first.numbers("score"), second.numbers("score"))

    def test_text_is_numbered_in_alphabetical_order(self, tmp_path: Path) -> None:
        table = read_table(write(tmp_path / "t.csv", "file,eye\na,OS\nb,OD\nc,\n"))
        np.testing.assert_array_equal(table.numbers("eye"), [1, 0, math.nan])

    def test_lines_that_end_early_are_missing_values(self, tmp_path: Path) -> None:
        table = read_table(write(tmp_path / "t.csv", "File_Path,BCVA,Patient_ID\n/a/1.tif,70.0\n"))
        assert table.patients == ("",)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("file,x\na,1\na,2\n", "two things about 'a', in rows 1 and 2"),
            ("file,x\n", "no rows"),
            ("x,y\n1,2\n", "no column that names the image"),
            ("file,x\n,2\n", "names no image"),
        ],
    )
    def test_a_table_that_cannot_be_used_says_why(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            read_table(write(tmp_path / "t.csv", text))

    def test_rows_that_repeat_are_left_out(self, tmp_path: Path) -> None:
        assert read_table(write(tmp_path / "t.csv", "file,x\na,1\na,1\nb,2\n")).names == ("a", "b")

    def test_a_name_is_found_by_its_end_and_never_guessed(self, tmp_path: Path) -> None:
        table = read_table(write(tmp_path / "t.csv", "file,x\n/V1/OD/1.tif,1\n/V2/OD/1.tif,2\n"))
        assert table.rows_of(["data/V2/OD/1.tif", "1.png"]).tolist() == [1, -1]
        with pytest.raises(InputError, match="could be"):
            table.rows_of(["1.tif"])

    def test_the_very_same_name_goes_before_names_that_end_alike(self, tmp_path: Path) -> None:
        table = read_table(write(tmp_path / "t.csv", "file,x\nOD/7.png,1\nvisit2/OD/7.png,2\n"))
        assert table.rows_of(["OD/7.png", "visit2/OD/7.png"]).tolist() == [0, 1]

    def test_a_table_about_other_images_is_refused(self, tmp_path: Path) -> None:
        table = read_table(write(tmp_path / "t.csv", "file,x\na,1\n"))
        with pytest.raises(InputError, match="names none of the 2 images"):
            blank(2).with_table(table)


def test_a_word_for_a_missing_value_is_no_class(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.csv", "file,answer,code\na,yes,1_2\nb,NA,12\nc,no,infinity\n"))
    np.testing.assert_array_equal(table.numbers("answer"), [1, np.nan, 0])
    words = table.words("answer")
    assert words is not None
    assert words.texts == ("no", "yes")
    # What only Python would call a number is text.
    codes = table.words("code")
    assert codes is not None
    assert codes.texts == ("12", "1_2", "infinity")


def test_columns_and_patients_must_fit_the_images() -> None:
    with pytest.raises(InputError, match="3 patients for 2"):
        blank(2, patients=("a", "b", "c"))
    with pytest.raises(InputError, match="no column 'x'; there are none"):
        blank(2).column("x")
    with pytest.raises(InputError, match="has shape"):
        Cohort(blank(2).images, {"x": np.zeros(3)})
