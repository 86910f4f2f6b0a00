"""Record files: what is refused, what survives, and what they say about the machine."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest

from truffle.bench import environment, records
from truffle.kernels.checks import ArgumentError

RECORDS = [{"op": "retrieve", "median_us": 1.5, "threads": 2, "ok": True}, {"op": "retrieve", "isa": None}]


def test_records_come_back_as_a_frame(tmp_path):
    path = tmp_path / "new/folder/retrieve.json"
    records.write_records(path, RECORDS, "python -m truffle.bench --op retrieve")
    frame = records.read_records(path)
    assert list(frame["op"]) == ["retrieve", "retrieve"]
    assert frame["median_us"][0] == 1.5
    assert frame.attrs["command"] == "python -m truffle.bench --op retrieve"
    assert frame.attrs["environment"]["packages"]["torch"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan"), [1], {}, np.float32(1)])
def test_what_json_cannot_hold_is_refused_and_nothing_is_written(tmp_path, value):
    path = tmp_path / "r.json"
    records.write_records(path, RECORDS, "first")
    with pytest.raises(ArgumentError, match=r"records\[1\]\['median_us'\]: expected"):
        records.write_records(path, [RECORDS[0], {"median_us": value}], "second")
    assert records.read_records(path).attrs["command"] == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"records": []}', '{"environment": {}, "command": "", "record": []}'])
def test_other_files_are_refused_by_name(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=r"r\.json: expected"):
        records.read_records(path)


@pytest.mark.parametrize("text", ["\ud800", "new"])
def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch, text):
    def fail(*arguments):
        raise OSError("no space")

    path = tmp_path / "r.json"
    records.write_atomically(path, "old")
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises((UnicodeEncodeError, OSError)):
        records.write_atomically(path, text)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_environment_is_json_and_names_what_matters():
    found = environment.environment()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {"cpu", "gpus", "driver", "os", "python", "packages", "commit", "dirty"} <= set(found)
    assert {"torch", "numba", "numpy"} <= set(found["packages"])


def test_revision_of_a_checkout_and_its_changes(tmp_path):
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
        run = subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True, text=True)
        return run.stdout.strip()

    assert environment.revision(tmp_path) == (None, None)
    git("init", "-q")
    Path(tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "a")
    assert environment.revision(tmp_path) == (git("rev-parse", "HEAD"), False)
    Path(tmp_path / "b").write_text("untracked")
    assert environment.revision(tmp_path)[1] is False
    Path(tmp_path / "a").write_text("2")
    assert environment.revision(tmp_path)[1] is True
