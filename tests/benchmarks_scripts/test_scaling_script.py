"""How cost grows: the script measures, and its table says with which power."""

import json

import pytest
from measuring import figures, growing, memory


def test_one_size_of_each_axis(script, tmp_path):
    few = ("--only", "floor", "training-step", "instrument", "--repeats", 1, "--no-memory")
    printed, _ = script("scaling", *few, "--axes", "depth", "batch", "--sizes", 8, "--output", tmp_path)

    sections = json.loads((tmp_path / "scaling.json").read_text())["sections"]
    assert [(section["axis"], section["size"], section["batch"]) for section in sections] == [
        ("depth", 8, 32),
        ("batch", 8, 8),
    ]
    assert sections[0]["title"] == "ResNet-8"
    assert {path.name for path in tmp_path.glob("*.svg")} == {"depth.svg", "batch.svg"}
    assert printed == (tmp_path / "scaling.md").read_text()


def section(size, milliseconds):
    ratios = {"to_training_step": 0.5, "to_floor": 0.8}
    rows = [
        {
            "name": name,
            "median": factor * milliseconds / 1e3,
            "memory": None,
            "ratios": ratios,
            "difference": None,
            "reason": "",
        }
        for name, factor in (("forward", 1), ("floor", 3), ("training-step", 5), ("instrument", 4), ("contrast", 41))
    ]
    environment = {
        "date": "today",
        "load_average": None,
        "processor": "p",
        "vector_instructions": "v",
        "threads": 1,
        "cores": 1,
        "system": "s",
        "versions": {},
    }
    about = {"axis": "classes", "of": "a network", "across": "classes", "batch": 4, "environment": environment}
    return {**about, "size": size, "rows": rows}


@pytest.mark.parametrize("power", [0, 1, 2])
def test_the_power_of_growth(power):
    document = {"sections": [section(size, 2.0 * size**power) for size in (10, 20, 40)]}
    text = growing.render(document)
    last = next(line for line in text.splitlines() if line.startswith("| power"))
    assert [cell.strip() for cell in last.split("|")[2:7]] == [f"{power}.00"] * 5
    # (41 - 1) / (3 - 1): what every class in turn costs, in backward passes of the floor.
    assert "10 classes: 20.0 in turn" in text
    assert figures.growth(document)["classes"].count("<svg") == 1


def test_what_a_process_printed_before_its_end_is_kept():
    print_one = 'import json, sys, time; print(json.dumps({"size": 1}), flush=True); '
    assert memory.of_another_process(["-c", print_one], 60) == ([{"size": 1}], "")
    found, reason = memory.of_another_process(["-c", print_one + "time.sleep(60)"], 5)
    assert (found, reason) == ([{"size": 1}], "took more than 5 s in a process of its own")
    found, reason = memory.of_another_process(["-c", print_one + "raise SystemExit('no')"], 60)
    assert (found, reason) == ([{"size": 1}], "its process failed: no")
    found, reason = memory.of_another_process(["-c", print_one + "import os; os.kill(os.getpid(), 9)"], 60)
    assert found == [{"size": 1}]
    assert "ended by signal 9" in reason
