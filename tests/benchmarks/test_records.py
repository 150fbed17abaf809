"""Records on disk and back, and what is refused."""

from __future__ import annotations

import json

import pytest

from gradiometer.benchmarks import records
from gradiometer.errors import ArtefactError, InputError


def test_a_record_comes_back_from_its_line(record):
    for original in (record(), record(false_alarms=None, protocol="matched", control=True)):
        line = original.to_json()
        assert "\n" not in line
        assert records.Record.from_json(line) == original


def test_records_are_appended_and_read_in_order(tmp_path, record):
    path = tmp_path / "deep" / "records.jsonl"
    written = [record(challenge=name) for name in ("mnist", "gtsrb", "scenes")]
    for entry in written:
        records.append(path, entry)
    assert records.read(path) == written
    records.write(path, written[:1])
    assert records.read(str(path)) == written[:1]


def test_a_line_says_what_it_takes_to_repeat_the_result(record):
    entries = json.loads(record().to_json())
    for name in ("seed", "versions", "weights_sha256", "data_sha256", "protocol", "counts", "seconds", "schema"):
        assert name in entries
    assert entries["metrics"]["auroc"].keys() == {"value", "low", "high"}
    assert {"python", "torch", "gradiometer"} <= records.versions().keys()
    assert records.environment()["cores"] >= 1


def test_a_broken_line_is_named(tmp_path, record):
    path = tmp_path / "records.jsonl"
    path.write_text(record().to_json() + "\n" + record().to_json()[:80] + record().to_json() + "\n")
    with pytest.raises(ArtefactError, match="line 2"):
        records.read(path)
    with pytest.raises(InputError, match="no file of records"):
        records.read(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("line", ["[]", "{}", '{"schema": 1}', '{"schema": 1, "metrics": {}}', "nonsense"])
def test_a_line_that_is_no_record_is_refused(line):
    with pytest.raises(ArtefactError):
        records.Record.from_json(line)


def test_a_newer_schema_is_refused_and_an_unknown_entry_is_not(record):
    entries = json.loads(record().to_json())
    with pytest.raises(ArtefactError, match="upgrade"):
        records.Record.from_json(json.dumps({**entries, "schema": records.SCHEMA + 1}))
    assert records.Record.from_json(json.dumps({**entries, "remark": "later versions may add things"})) == record()


def test_only_our_protocols_and_kinds_are_taken(record):
    with pytest.raises(InputError, match="known-only, matched, transfer"):
        record(protocol="fair")
    with pytest.raises(InputError, match="detection, handling, null"):
        record(kind="guess")


def test_a_realised_rate_is_the_flagged_share(record):
    alarms = record().false_alarms
    assert alarms.realised == 22 / 400
    assert alarms.realised in alarms.expected
    assert alarms.realised in alarms.expected_with_calibration


def test_a_line_that_a_crash_cut_short_is_passed_over(tmp_path, record):
    path = tmp_path / "records.jsonl"
    whole = record()
    path.write_text(whole.to_json() + "\n" + whole.to_json()[:100])
    assert records.read(path) == [whole]
    records.append(path, record(challenge="gtsrb"))
    assert records.read(path) == [whole, record(challenge="gtsrb")]
