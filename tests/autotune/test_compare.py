"""Files that are no study's record are refused by what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from truffle.autotune.cli import main

STUDY = Path(__file__).parents[2] / "reports/results/h200/tune_llama-3.1-8b_96k/study.json"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"answer": {}}, "answer.trial: Field required"),
        ({"answer": []}, "answer: "),
        ({"trials": {"a": 1}}, "trials: "),
        ({"trials": [3]}, "trials.0: "),
        ({"trials": [{"number": 0}]}, "trials.0.label: Field required"),
        ({"trials": [{"number": 0, "label": "a", "tokens_per_s_low": "fast"}]}, "trials.0.tokens_per_s_low: "),
        ({"trials": [{"number": 0, "label": "a", "tokens_per_s_low": float("nan")}]}, "trials.0.tokens_per_s_low: "),
        ({"host": 3}, "host: "),
        ({"environment": {"packages": []}}, "environment.packages: "),
        ({"fingerprint": "x"}, "fingerprint: "),
    ],
)
def test_what_is_a_study_in_part_is_refused_by_what_is_wrong(tmp_path, capsys, change, named):
    (tmp_path / "study.json").write_text(json.dumps(json.loads(STUDY.read_text()) | change))
    assert main(["compare", str(STUDY), str(tmp_path)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {tmp_path}/study.json: expected a study's record, got {named}")


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000, '{"answer": 1}'], ids=["list", "torn", "deep", "answer"])
def test_what_is_no_record_at_all_is_refused_in_a_line(tmp_path, capsys, text):
    (tmp_path / "study.json").write_text(text)
    assert main(["compare", str(tmp_path), str(STUDY)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {tmp_path}/study.json: expected a study's record, got ")
