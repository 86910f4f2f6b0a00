"""Methods on several kinds of text: one exact run a text, kept by the block, summed up by kind and over all."""

from __future__ import annotations

import random

import pytest

from tests.bench.test_task_accuracy import MODEL, NARROW, ByteTokenizer
from truffle.bench import text, text_comparison
from truffle.bench.__main__ import build_parser, main
from truffle.bench.comparison import compared
from truffle.bench.journal import Journal
from truffle.bench.records import write_records
from truffle.bench.text_comparison import BLOCK, SETTINGS, TextSetting, measure_texts, summarise_texts
from truffle.reports.errors import load

STEPS = BLOCK + 4


class Tokenizer(ByteTokenizer):
    def __call__(self, text: str) -> dict:
        return super().__call__(text, verbose=False)


@pytest.fixture(autouse=True)
def few_letters(monkeypatch):
    made = {name: "".join(random.Random(name).choices(name, k=700)) for name in ("abcd", "efgh")}
    monkeypatch.setattr(text, "KINDS", {name: lambda letters=letters: letters for name, letters in made.items()})


@pytest.fixture
def runs(monkeypatch) -> list:
    seen, run_dense = [], text_comparison.run_dense

    def counted(model, tokens, *rest):
        seen.append(len(tokens))
        return run_dense(model, tokens, *rest)

    monkeypatch.setattr(text_comparison, "run_dense", counted)
    return seen


def measured(methods: str, journal: Journal | None = None, samples: int = 2) -> list[dict]:
    given = ["accuracy", "--methods", methods, "--densities", "0.1", "--context", "150", *NARROW]
    found = [one for one in compared(build_parser().parse_args(given)) if one.config.method != "dense"]
    setting = TextSetting(("abcd", "efgh"), samples, 150, STEPS)
    return list(measure_texts(MODEL, Tokenizer(), found, setting, journal or Journal(None, SETTINGS)))


def test_one_exact_run_of_a_text_serves_all_methods(runs):
    records = measured("oracle_topk --budget 1.0,uniform,streaming")
    assert runs == [150 + STEPS] * 4
    assert len(records) == 2 * 2 * 3 * 2
    kl = {}
    for record in records:
        kl.setdefault(record["method"], []).append(record["kl"])
    assert max(kl["oracle_topk"]) < 1e-9 < min(kl["uniform"])
    assert {record["density"] for record in records if record["method"] == "streaming"} == {0}


def test_what_was_measured_is_not_measured_again(runs, tmp_path):
    file = tmp_path / "found.journal"
    first = measured("uniform", Journal(file, SETTINGS), samples=1)
    runs.clear()
    assert measured("uniform", Journal(file, SETTINGS), samples=1) == first
    assert not runs
    measured("uniform,quest", Journal(file, SETTINGS), samples=1)
    assert len(runs) == 2


def test_a_summary_is_of_each_text_and_of_all():
    records = measured("uniform,quest")
    rows = {(row["text"], row["method"]): row for row in summarise_texts(records)}
    assert list(rows) == [(kind, method) for kind in ("abcd", "efgh", "all") for method in ("uniform", "quest")]
    own = [record["kl"] for record in records if record["text"] == "abcd" and record["method"] == "quest"]
    assert rows["abcd", "quest"]["kl"] == pytest.approx(sum(own) / 4)
    assert rows["abcd", "quest"]["samples"] == 2
    assert rows["all", "quest"]["samples"] == 4
    low, high = (rows["all", "uniform"][f"kl_{end}"] for end in ("low", "high"))
    assert 0 < low < rows["all", "uniform"]["kl"] < high
    assert [row["name"] for row in rows.values()] == ["uniform", "quest"] * 3


def test_the_figure_of_reports_reads_what_is_written(tmp_path):
    rows = summarise_texts(measured("uniform,quest"))
    write_records(tmp_path / "found.json", rows, "made by a test")
    model, (panel,) = load([tmp_path / "found.json"])
    assert (model, panel.context, panel.steps, panel.samples, panel.texts) == (MODEL.id, 150, STEPS, 4, "abcd, efgh")
    drawn = {line.name: (line.points[0].kl, line.points[0].rows) for line in panel.lines}
    assert drawn == {row["name"]: (row["kl"], row["rows"]) for row in rows if row["text"] == "all"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--texts", "abcd,poems"], "texts: expected some of abcd, efgh, got 'poems'"),
        (["--texts", "abcd", "--methods", "dense"], "methods: expected one or more beside dense"),
        (["--texts", "abcd", "--steps", "0"], "steps: expected at least 1, got 0"),
        (["--texts", "abcd", "--prompt-file", "x"], "prompt_file: expected a text with it"),
    ],
)
def test_bad_options_are_refused(options, message, capsys):
    assert main(["accuracy", "--methods", "quest", *options]) != 0
    assert message in capsys.readouterr().err


def test_every_kind_of_text_is_long_enough():
    assert {name: len(make()) > 400_000 for name, make in KINDS.items()} == dict.fromkeys(
        ("reference", "code", "essays"), True
    )


KINDS = dict(text.KINDS)  # before any test replaces them
