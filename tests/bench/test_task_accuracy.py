"""Scores by task: methods that attend everything answer as dense, from one reading a prompt, once."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from tests.model.tiny import SHAPE
from truffle.bench import task_accuracy
from truffle.bench.__main__ import build_parser, main
from truffle.bench.calibration import expected_fraction
from truffle.bench.journal import Journal
from truffle.bench.method_list import listed
from truffle.bench.task_accuracy import SETTINGS, TaskSetting, measure_tasks
from truffle.bench.task_methods import COSINE_DEVIATION, contenders, nearest_tables
from truffle.bench.task_summary import paired_interval, summarise_tasks
from truffle.bench.tasks.sample import Draft, Task
from truffle.kernels.checks import ArgumentError
from truffle.model.config import LshParameters
from truffle.model.weights import LoadedModel, random_weights

BYTES = SHAPE.model_copy(update={"vocabulary": 256})
MODEL = LoadedModel("tiny", BYTES, random_weights(BYTES, seed=3), folder=None, end_tokens=frozenset())
NARROW = ["--sink", "1", "--window", "2", "--dense-layers", ""]


class ByteTokenizer:
    def __call__(self, text: str, verbose: bool) -> dict:
        return {"input_ids": list(text.encode())}

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode("latin-1")


def letters(rng: random.Random, size: int, context: int) -> Draft:
    """Random letters; no single letter is sure to follow."""
    text = "".join(rng.choice("abcdefgh ") for _ in range(size))
    return Draft(text, "\n\nQuestion: which?", ("a", "e", "i", "o", "u", "\xe9"))


LETTERS = Task("letters", 16, letters)


def found(methods: str, densities: tuple[float, ...] = (1.0,), *options: str) -> list:
    narrow = [] if methods == "dense" else NARROW
    return contenders(listed(methods), list(densities), build_parser().parse_args(["accuracy", *narrow, *options]))


def measured(chosen: list, setup: str = "A", samples: int = 3, journal: Journal | None = None) -> list[dict]:
    journal = journal or Journal(None, SETTINGS)
    setting = TaskSetting(context=150, samples=samples, setup=setup)
    return list(measure_tasks(MODEL, ByteTokenizer(), [LETTERS], chosen, setting, journal))


def predictions(records: list[dict]) -> dict[str, list[str]]:
    by_method: dict[str, list[str]] = {}
    for record in records:
        by_method.setdefault(record["method"], []).append(record["prediction"])
    return by_method


@pytest.fixture
def readings(monkeypatch) -> list:
    """Samples that were read exactly, as they are."""
    seen, read = [], task_accuracy.read

    def counted(model, sample, *rest):
        seen.append((sample.task, sample.index))
        return read(model, sample, *rest)

    monkeypatch.setattr(task_accuracy, "read", counted)
    return seen


@pytest.mark.parametrize("setup", ["A", "B"])
def test_methods_that_attend_everything_answer_as_dense(setup):
    by_method = predictions(measured(found("oracle_topk,quest,uniform,vattention"), setup))
    assert all(answers == by_method["dense"] for answers in by_method.values())
    assert len(set(by_method["dense"])) == 3


def test_what_attends_less_answers_otherwise_and_says_how_much_it_attended():
    records = measured(found("uniform,streaming", (0.05,)), "B")
    by_method = predictions(records)
    assert by_method["streaming"] != by_method["dense"] != by_method["uniform"]
    densities = {record["method"]: (record["asked_density"], record["density"]) for record in records}
    assert densities["dense"] == (None, None)
    assert densities["streaming"] == (None, 0)
    assert densities["uniform"] == (0.05, pytest.approx(0.05, abs=0.01))


def test_dense_answers_the_same_in_both_setups():
    assert predictions(measured(found("dense"), "A")) == predictions(measured(found("dense"), "B"))


def test_the_question_goes_through_the_method_in_setup_b_only():
    a, b = (predictions(measured(found("streaming"), setup))["streaming"] for setup in "AB")
    assert all(x[0] == y[0] for x, y in zip(a, predictions(measured(found("dense")))["dense"], strict=True))
    assert any(x[0] != y[0] for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("setup", ["A", "B"])
def test_samples_are_answered_together_as_they_are_alone(setup, monkeypatch):
    def asking(rng, size, context):
        return Draft(letters(rng, size, context).context, "?" * rng.randint(1, 9), ("a", "e"))

    chosen = found("uniform,lsh", (0.3,), "--K", "2", "--L", "9", "--seal-tokens", "8")
    model, task = replace(MODEL, end_tokens=frozenset(range(0, 256, 9))), Task("asking", 16, asking)

    def answered(together: int) -> list[dict]:
        monkeypatch.setattr(task_accuracy, "TOGETHER", together)
        setting, journal = TaskSetting(150, 4, setup), Journal(None, SETTINGS)
        records = list(measure_tasks(model, ByteTokenizer(), [task], chosen, setting, journal))
        return sorted(records, key=lambda record: (record["method"], record["sample"]))

    assert len({record["tokens"] for record in answered(4)}) > 3, "some are to end before others"
    assert answered(3) == answered(1)


def test_one_reading_serves_all_methods(readings):
    records = measured(found("uniform,streaming,lsh", (0.05, 0.5)))
    assert len(records) == 3 * 6
    assert readings == [("letters", 0), ("letters", 1), ("letters", 2)]


def test_what_was_measured_is_not_measured_again(readings, tmp_path):
    file, chosen = tmp_path / "found.journal", found("uniform", (0.05,))
    first = measured(chosen, samples=2, journal=Journal(file, SETTINGS))
    readings.clear()
    again = measured(chosen, samples=3, journal=Journal(file, SETTINGS))
    assert [record for record in again if record["sample"] < 2] == first
    assert readings == [("letters", 2)]
    measured(found("uniform", (0.05,), "--seed", "1"), samples=1, journal=Journal(file, SETTINGS))
    measured(chosen, "B", samples=1, journal=Journal(file, SETTINGS))
    assert readings[1:] == [("letters", 0), ("letters", 0)], "other settings are other records"


def test_an_interrupted_journal_loses_its_last_line_only(readings, tmp_path):
    file, chosen = tmp_path / "found.journal", found("uniform", (0.05,))
    first = measured(chosen, samples=2, journal=Journal(file, SETTINGS))
    file.write_text(file.read_text()[:-20])
    readings.clear()
    assert measured(chosen, samples=2, journal=Journal(file, SETTINGS)) == first
    assert readings == [("letters", 1)]
    assert [json.loads(line) for line in file.read_text().splitlines()] == first


def test_a_file_of_something_else_is_no_journal(tmp_path):
    (tmp_path / "other").write_text("hello\n")
    with pytest.raises(ArgumentError, match="expected a record a line"):
        Journal(tmp_path / "other", SETTINGS)


def test_answers_stop_once_all_are_named():
    everything = Task("nothing to find", 16, lambda *size: Draft(letters(*size).context, "?", ("",)))
    chosen, setting = found("dense"), TaskSetting(100, 1, "A")
    record = next(measure_tasks(MODEL, ByteTokenizer(), [everything], chosen, setting, Journal(None, SETTINGS)))
    assert (record["score"], record["tokens"]) == (100, 1)
    assert {record["tokens"] for record in measured(chosen)} == {16}


def test_the_interval_is_that_of_paired_differences():
    """Of two pairs that differ by 0 and 10, drawn twice: 0 and 10 by a quarter each, 5 by half."""
    assert paired_interval(np.array([50.0, 60.0]), np.array([50.0, 50.0])) == (0, 10)
    spread = np.random.default_rng(0).uniform(0, 100, 200)
    assert paired_interval(spread - 3, spread) == pytest.approx((-3, -3))
    low, high = paired_interval(spread, np.full(200, 50.0))
    error = spread.std() / np.sqrt(200)
    assert (low, high) == pytest.approx((spread.mean() - 50 - 1.96 * error, spread.mean() - 50 + 1.96 * error), abs=0.3)
    with pytest.raises(ValueError, match="as many"):
        paired_interval(np.zeros(2), np.zeros(3))


def test_a_summary_pairs_by_sample_and_pools_tasks():
    shared = {
        "op": "accuracy_task",
        "model": "m",
        "context": 1,
        "setup": "A",
        "seed": 0,
        "store_format": "",
        "parameters": "{}",
    }
    scores = {("x", 0): (100, 40), ("x", 1): (0, 0), ("y", 0): (50, 50), ("y", 1): (50, 60)}
    records = [
        shared | {"task": task, "sample": sample, "method": method, "asked_density": None, "score": score, "density": d}
        for (task, sample), pair in reversed(scores.items())
        for method, score, d in zip(("dense", "quest"), pair, (None, 0.01 * score_of(pair)), strict=True)
    ]
    rows = {(row["task"], row["method"]): row for row in summarise_tasks(records)}
    assert [rows[task, "quest"]["difference"] for task in ("x", "y", "all")] == [-30, 5, -12.5]
    assert rows["x", "quest"]["difference_low"] == -60
    assert rows["all", "quest"]["samples"] == 4
    assert rows["all", "dense"]["difference"] == rows["all", "dense"]["difference_high"] == 0
    assert rows["y", "quest"]["density"] == pytest.approx(0.55)


def score_of(pair: tuple[int, int]) -> int:
    return pair[1]


@pytest.mark.parametrize("density", [0.005, 0.02, 0.05, 0.1, 0.5])
def test_tables_are_of_the_density(density):
    K, L = nearest_tables(density)
    assert expected_fraction(LshParameters(K=K, L=L), COSINE_DEVIATION) == pytest.approx(density, rel=0.05)
    assert 80 <= L <= 125


def test_everything_takes_the_most_tables():
    assert nearest_tables(1.0) == (4, 150)


def test_a_parameter_is_every_methods_that_has_it():
    dense, quest, lsh = found("quest,lsh", (0.05,), "--L", "20")
    assert dense.config.method == "dense"
    assert (quest.config.parameters.budget, quest.config.parameters.window) == (0.05, 2)
    assert isinstance(lsh.config.parameters, LshParameters)
    assert (lsh.config.parameters.L, lsh.config.parameters.window) == (20, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "niah", "--methods", "best"], "methods: expected some of dense"),
        (["--tasks", "niah"], "methods: expected those to compare"),
        (["--methods", "quest"], "methods: expected --texts or --tasks or --long-generation"),
        (["--tasks", "chess", "--methods", "quest"], "tasks: expected some of ruler"),
        (["--tasks", "vt", "--methods", "quest", "--densities", "a"], "densities: expected numbers such as"),
        (["--tasks", "vt", "--methods", "quest", "--densities", "0.1,2"], "densities: expected numbers above 0"),
        (["--tasks", "vt", "--methods", "quest", "--samples", "0"], "samples: expected at least 1, got 0"),
        (
            ["--tasks", "vt", "--methods", "quest", "--K", "8"],
            "K: expected one of lsh, vattention among methods, got quest",
        ),
        (["--tasks", "vt", "--methods", "quest", "--ball", "1"], "ball: expected lsh among methods"),
        (
            ["--tasks", "vt", "--methods", "quest", "--no-centring"],
            "no_centring: expected lsh or scan among methods, got quest",
        ),
        (["--tasks", "vt", "--methods", "scan", "--impl", "scan_sample=reference"], "impl: expected lsh among methods"),
        (["--tasks", "vt", "--methods", "lsh", "--K", "99"], "K: Input should be less than or equal to 16"),
        (["--tasks", "vt", "--methods", "quest", "--context", "90"], "context: expected about"),
        (["--tasks", "vt", "--methods", "quest", "--context", "9000"], "context: expected at most 8192"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_one_line_and_exit_2(options, message, capsys):
    assert main(["accuracy", *options]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1]
    assert len(lines) == 1


@pytest.mark.slow
def test_smollm2_finds_needles_and_the_window_does_not(tmp_path, capsys):
    file = tmp_path / "found.json"
    options = ["--methods", "oracle_topk,streaming", "--context", "1024", "--samples", "2", "--threads", "2"]
    assert main(["accuracy", "--tasks", "niah_single_1", *options, "--json", str(file)]) == 0
    rows = {row["method"]: row for row in json.loads(file.read_text())["records"][:3]}
    assert rows["dense"]["score"] == rows["oracle_topk"]["score"] == 100
    assert rows["streaming"]["score"] < 100
    assert rows["oracle_topk"]["density"] == pytest.approx(0.05, abs=0.01)
    assert "oracle_topk" in capsys.readouterr().out


def test_top_p_sets_its_own_density_which_is_observed():
    chosen = found("oracle_topp", (0.02, 0.5))
    assert [(c.config.method, c.density) for c in chosen] == [("dense", None), ("oracle_topp", None)]
    (other,) = found("oracle_topp", (0.02,), "--mass", "0.5")[1:]
    assert (other.config.parameters.mass, other.density) == (0.5, None)
    few, most = (
        np.mean([r["density"] for r in measured(found("oracle_topp", (0.05,), "--mass", mass), samples=1)[1:]])
        for mass in ("0.3", "0.9")
    )
    assert 0 < few < most < 1
