"""Studies for the report tests: the made-up one in study.json, and ways to bend it."""

import copy
import json
from pathlib import Path

import pytest

RECORD = json.loads((Path(__file__).parent / "study.json").read_text(encoding="utf-8"))
FAILED = {"number": 0, "status": "failed", "label": "lsh (10, 150)", "origin": "default", "reason": "no room"}


@pytest.fixture
def record() -> dict:
    """A complete study with made-up figures; a fresh copy for each test."""
    return copy.deepcopy(RECORD)


@pytest.fixture
def fruitless() -> dict:
    """A study in which nothing completed, with null for every section."""
    sections = dict.fromkeys(("gpu", "host", "workload", "accuracy_model", "limit", "answer", "budget", "command"))
    return {"schema_version": 1, **sections, "baselines": [], "trials": [FAILED]}


@pytest.fixture
def folder_of(tmp_path):
    """Writes a record (or any text) as study.json into a fresh folder and returns the folder."""

    def write(record) -> Path:
        text = record if isinstance(record, str) else json.dumps(record)
        (tmp_path / "study.json").write_text(text, encoding="utf-8")
        return tmp_path

    return write
