"""Miniatures of published data sets, in the layout in which they are released."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

KEY = "Path (Trial/Arm/Folder/Visit/Eye/Image Name)"
BIOMARKERS = (
    "Atrophy / thinning of retinal layers",
    "Disruption of EZ",
    "DRIL",
    "IR hemorrhages",
    "IR HRF",
    "Partially attached vitreous face",
    "Fully attached vitreous face",
    "Preretinal tissue/hemorrhage",
    "Vitreous debris",
    "VMT",
    "DRT/ME",
    "Fluid (IRF)",
    "Fluid (SRF)",
    "Disruption of RPE",
    "PED (serous)",
    "SHRM",
)
FIVE = {"IRF": 11, "DME": 10, "IRHRF": 4, "FAVF": 6, "PAVF": 5}
TREX_TRAIN = ("0232GOD", "0234GOD", "0203TOD")
TREX_TEST = ("0201GOD", "0203GOS")
"""Patient 203 has an eye on each side, as in the released split 1."""
PRIME_TRAIN = ("02-008", "01-001")
PRIME_TEST = ("02-010",)


def scan(rng: np.random.Generator, present: np.ndarray, size: int = 24) -> Image.Image:
    """A grey scan with a layer, and a bright block in a row of its own for each biomarker that is present."""
    pixels = rng.normal(40, 12, (size, size))
    pixels[size // 2 : size // 2 + 3] += 80
    for number in np.flatnonzero(present):
        pixels[1 + number : 3 + number, 2 + number : 8 + number] += 90
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def olives(root: Path, scans: int = 6, seed: int = 0) -> Path:
    """OLIVES as its archives unpack, with the tables of split 1 beside it."""
    rng = np.random.default_rng(seed)
    folders = {name: f"TREX DME/GILA/{name}/V1/{name[-2:]}" for name in (*TREX_TRAIN, *TREX_TEST)}
    folders |= {name: f"Prime_FULL/{name}/W0/OD" for name in (*PRIME_TRAIN, *PRIME_TEST)}
    rows: dict[str, list[list[object]]] = {}
    for eye, (patient, folder) in enumerate(folders.items(), start=1):
        (root / "OLIVES" / folder).mkdir(parents=True)
        for number in range(scans):
            name = f"TREXA_{number:06}.tif" if folder.startswith("TREX") else f"{number}.tif"
            present = (rng.random(len(BIOMARKERS)) < 0.5).astype(int)
            picture = scan(rng, present[list(FIVE.values())])
            # Some scans of PRIME are stored as .png, whatever the tables say.
            stored = name.replace(".tif", ".png") if patient == "01-001" else name
            picture.save(root / "OLIVES" / folder / stored)
            owner = f"{int(patient[:4])}.0" if folder.startswith("TREX") else f"{eye + 50}.0"
            clinical = [eye, "" if patient == "02-008" else 60 + eye, 250 + 10 * number]
            rows.setdefault(patient, []).append([f"/{folder}/{name}", number + 1, *present, *clinical, owner])
    head = [KEY, "Scan (n/49)", *BIOMARKERS, "Eye_ID", "BCVA", "CST ", "Patient_ID"]
    tables = root / "final_csvs_1" / "biomarker_csv_files"
    for part, patients in (("training", TREX_TRAIN + PRIME_TRAIN), ("test", TREX_TEST + PRIME_TEST)):
        _write(tables / f"complete_biomarker_{part}.csv", head, [row for one in patients for row in rows[one]])
    balanced = [row for one in TREX_TEST for row in rows[one]]
    # The balanced tables of the release have the paths of the machine that they were made on.
    balanced = [[f"/data/Datasets{row[0]}", *row[1:]] for row in balanced]
    _write(root / "final_csvs_1" / "test_biomarker_sets" / "test_fluirf.csv", head, balanced)
    everything = [row for several in rows.values() for row in several]
    labels = root / "OLIVES_Dataset_Labels" / "ml_centric_labels"
    _write(labels / "Biomarker_Clinical_Data_Images.csv", head, everything)
    pool = [[row[0], row[-3], row[-2], row[-4], row[-4]] for one in TREX_TRAIN + PRIME_TRAIN for row in rows[one]]
    combined = root / "final_csvs_1" / "datasets_combined" / "prime_trex_compressed.csv"
    _write(combined, ["File_Path", "BCVA", "CST", "Eye_ID", "Patient_ID"], pool)
    return root


def hub(root: Path, count: int = 10, seed: int = 0) -> Path:
    """The mirror of OLIVES on Hugging Face: two Parquet shards, some rows without biomarkers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    folder = root / "OLIVES_Dataset" / "disease_classification"
    folder.mkdir(parents=True)
    for shard in range(2):
        columns: dict[str, list[object]] = {"Image": [], "Scan (n/49)": []}
        present = (rng.random((count, len(BIOMARKERS))) < 0.5).astype(float)
        for row in range(count):
            buffer = io.BytesIO()
            scan(rng, present[row, list(FIVE.values())]).save(buffer, "PNG")
            columns["Image"].append({"bytes": buffer.getvalue(), "path": f"{row}.png"})
            columns["Scan (n/49)"].append(row)
        known = [row % 5 != 0 for row in range(count)]
        for number, name in enumerate(BIOMARKERS):
            columns[name] = [float(present[row, number]) if known[row] else None for row in range(count)]
        columns["Eye_ID"] = [shard + 1] * count
        columns["BCVA"] = [80.0 if row else None for row in range(count)]
        columns["CST"] = [300.0] * count
        columns["Patient_ID"] = [200 + shard] * count
        columns["Disease Label"] = [float(shard)] * count
        pq.write_table(pa.table(columns), folder / f"train-{shard:05}-of-00002.parquet")
    return root


def kermany(root: Path, seed: int = 0) -> Path:
    """OCT2017: one folder for each part and disease, patients in the names of the files."""
    rng = np.random.default_rng(seed)
    for part, first in (("train", 1001666), ("test", 1001667)):
        for number, disease in enumerate(("CNV", "DME", "DRUSEN", "NORMAL")):
            folder = root / "OCT2017" / part / disease
            folder.mkdir(parents=True)
            for patient in range(2):
                for image in range(3):
                    name = f"{disease}-{first + patient + 10 * number}-{image + 1}.jpeg"
                    scan(rng, np.zeros(5)).save(folder / name)
    return root


def _write(path: Path, head: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
