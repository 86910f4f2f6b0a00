"""Planted keys by method: exact attention answers all, and each method fails at what it cannot see."""

from __future__ import annotations

import json

import pytest
import torch

from truffle.bench import planted_accuracy
from truffle.bench.__main__ import build_parser, main
from truffle.bench.accuracy_command import KINDS
from truffle.bench.comparison import compared
from truffle.bench.journal import Journal
from truffle.bench.planted_accuracy import HEAD_DIM, SETTINGS, PlantedSetting, answer, measure_planted
from truffle.bench.planted_command import flattened
from truffle.bench.tasks.planted import PLANTED, exact, fewest_keys
from truffle.model.config import METHODS, DecodeConfig

SETTING = PlantedSetting(context=1024, samples=2, device="cpu", dtype=torch.float32)


def found(methods: str, density: str, *options: str) -> list:
    given = ["accuracy", "--context", "1024", "--methods", methods, "--densities", density, *options]
    return [flattened(contender) for contender in compared(build_parser().parse_args(given))]


def measured(chosen: list, setting: PlantedSetting = SETTING, journal: Journal | None = None) -> list[dict]:
    return list(measure_planted(chosen, setting, journal or Journal(None, SETTINGS)))


def means(records: list[dict], name: str) -> dict[tuple[str, str], float]:
    groups: dict[tuple[str, str], list[float]] = {}
    for record in records:
        groups.setdefault((record["task"], record["method"]), []).append(record[name] or 0.0)  # dense has no density
    return {key: sum(values) / len(values) for key, values in groups.items()}


def test_every_method_answers_and_those_that_attend_everything_exactly():
    chosen = found(",".join(METHODS), "1.0", "--mass", "1.0")
    records = measured(chosen)
    scores, errors = means(records, "score"), means(records, "output_error")
    assert {method for _, method in scores} == set(METHODS)
    for task in PLANTED:
        for method in ("dense", "oracle_topk", "oracle_topp", "quest", "uniform", "priority", "vattention"):
            assert scores[task, method] == 100
            assert errors[task, method] < 1e-4
        assert scores[task, "scan"] == 100
        assert errors[task, "scan"] < 0.01, "its store is bfloat16"
        assert errors[task, "streaming"] > 0.3


def test_a_scan_answers_every_question_of_its_own_sample():
    records = measured(found("scan", "0.1"))
    scores = means(records, "score")
    assert min(scores[task, "scan"] for task in PLANTED) > 80
    assert means(records, "density")["needle", "scan"] == pytest.approx(0.09, abs=0.02)


def test_each_fails_where_it_cannot_see():
    records = measured(found("streaming,uniform,oracle_topk,priority", "0.05"))
    scores, densities = means(records, "score"), means(records, "density")
    for task in ("needle", "multivalue", "chain"):
        assert scores[task, "oracle_topk"] == scores[task, "priority"] == 100
        assert max(scores[task, "streaming"], scores[task, "uniform"]) < 30
    assert scores["frequency", "oracle_topk"] < 20 < 80 < scores["frequency", "priority"]
    assert densities["needle", "uniform"] == pytest.approx(0.05, abs=0.002)
    assert densities["needle", "streaming"] == 0


def test_tables_find_what_is_planted():
    records = measured(found("lsh", "0.1"))
    scores = means(records, "score")
    assert min(scores[task, "lsh"] for task in ("needle", "multivalue", "chain")) > 95
    assert 0.02 < means(records, "density")["needle", "lsh"] < 0.2


def test_one_step_of_all_queries_is_attention_of_each():
    planted = PLANTED["chain"](n=1000, d=HEAD_DIM, seed=0)
    seen = []

    def kept(q, keys, values):
        seen.append(exact(q, keys, values))
        return seen[-1]

    record = answer(planted, DecodeConfig(), SETTING)
    assert (record["score"], record["density"]) == (planted.score(kept), None)
    assert record["output_error"] < 1e-5
    assert len(seen) == planted.links


def test_what_was_measured_is_not_measured_again(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(planted_accuracy, "answer", lambda planted, config, setting: (asked.append(config), {})[1])
    file = tmp_path / "found.journal"
    measured(found("quest", "0.05"), SETTING, Journal(file, SETTINGS))
    assert len(asked) == 2 * 2 * len(PLANTED)
    measured(found("quest", "0.05"), SETTING, Journal(file, SETTINGS))
    assert len(asked) == 2 * 2 * len(PLANTED)
    half = PlantedSetting(1024, 2, "cpu", torch.bfloat16)
    measured(found("quest", "0.05"), half, Journal(file, SETTINGS))
    assert len(asked) == 2 * 2 * 2 * len(PLANTED)


def test_the_command_prints_scores_and_errors_without_a_model(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("truffle.model.weights.load", None)
    file = tmp_path / "found.json"
    options = ["--context", "600", "--samples", "2", "--methods", "quest,lsh", "--json", str(file)]
    assert main(["accuracy", "--planted", *options]) == 0
    records = json.loads(file.read_text())["records"]
    summary = [record for record in records if record["op"] == "accuracy_planted_summary"]
    assert len(summary) == 3 * (len(PLANTED) + 1)
    dense = [row for row in summary if row["method"] == "dense"]
    assert all(row["score"] == 100 and row["output_error"] < 1e-5 for row in dense)
    assert all(row["output_error_low"] <= row["output_error"] <= row["output_error_high"] for row in summary)
    shown = capsys.readouterr().out
    assert "planted, 600 keys, 2 samples a task" in shown
    assert "error" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "lsh", "--context", "383"], "context: expected at least 384 keys, got 383"),
        (["--methods", "scan", "--per", "group"], "per: expected head with --planted, whose queries are no group"),
        (["--methods", "lsh", "--dense-layers", "0"], "dense_layers: expected none with --planted"),
        (["--methods", "lsh", "--model", "smollm2"], "model: expected a text or --texts or --tasks"),
        (["--methods", "lsh", "--temperature", "0"], "temperature: expected a text or --long-generation with it"),
        (["--methods", "lsh", "--samples", "0"], "samples: expected at least 1, got 0"),
        ([], "methods: expected those to compare"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_one_line_and_exit_2(options, message, capsys):
    assert main(["accuracy", "--planted", *options]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1]
    assert len(lines) == 1


def test_sizes_are_those_of_the_tasks():
    assert fewest_keys(HEAD_DIM) == 384
    assert KINDS["planted"].options["context"] == 32_768
