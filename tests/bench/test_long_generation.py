"""Long generation: what attends everything follows exactly, what does not says where, and nothing is measured twice."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.bench.test_task_accuracy import MODEL, NARROW, ByteTokenizer
from truffle.bench import long_generation
from truffle.bench.__main__ import build_parser, main
from truffle.bench.journal import Journal
from truffle.bench.long_command import followers
from truffle.bench.long_generation import BLOCKS, SETTINGS, SPANS, LongSetting, measure_long
from truffle.bench.long_summary import interval, summarise_long
from truffle.bench.tasks.sample import encoder
from truffle.kernels.checks import ArgumentError
from truffle.model.config import METHODS

ENCODE = encoder(ByteTokenizer())
SETTING = LongSetting(context=90, tokens=128, samples=1, temperature=0.7)


def found(methods: str, densities: str = "1.0", *options: str) -> list:
    narrow = [] if methods == "dense" else NARROW
    given = ["accuracy", "--context", "90", "--methods", methods, "--densities", densities, *narrow, *options]
    return followers(build_parser().parse_args(given))


def measured(chosen: list, setting: LongSetting = SETTING, journal: Journal | None = None) -> list[dict]:
    return list(measure_long(MODEL, ENCODE, chosen, setting, journal or Journal(None, SETTINGS)))


def summarised(chosen: list, setting: LongSetting = SETTING) -> dict[tuple, dict]:
    rows = summarise_long(measured(chosen, setting), chosen)
    return {(row["method"], json.loads(row["parameters"]).get("seal_tokens"), row["span"]): row for row in rows}


@pytest.fixture
def followed(monkeypatch) -> list:
    """Methods of every sample that was followed."""
    seen, follow = [], long_generation.follow

    def counted(model, prompt, chosen, *rest):
        seen.append([config.method for _, config in chosen])
        return follow(model, prompt, chosen, *rest)

    monkeypatch.setattr(long_generation, "follow", counted)
    return seen


def test_methods_that_attend_everything_follow_exactly_to_the_end():
    rows = summarised(found("dense,oracle_topk,quest,uniform"))
    assert len(rows) == 4 * (SPANS + 1)
    for row in rows.values():
        assert abs(row["kl"]) < 1e-8
        assert row["top1"] == row["top1_low"] == 1
        assert row["density"] == (None if row["method"] == "dense" else 1)


def test_every_method_can_follow():
    rows = summarised(found(",".join(METHODS), "0.05"), LongSetting(90, BLOCKS, 1, 0.7))
    assert {method for method, _, _ in rows} == set(METHODS)
    assert all(np.isfinite(row["kl"]) for row in rows.values())


def test_a_window_errs_and_an_open_segment_does_not():
    rows = summarised(found("streaming,lsh", "0.05"))
    assert rows["streaming", None, "all"]["kl"] > 1e-4
    assert rows["streaming", None, "8"]["density"] == 0
    assert rows["lsh", 64, "all"]["kl"] > 1e-5
    assert rows["lsh", 64, "8"]["density"] < 0.9
    late = [rows["lsh", 1024, str(span + 1)] for span in range(SPANS)]
    assert [row["density"] for row in late] == [1.0] * SPANS
    assert max(abs(row["kl"]) for row in late) < 1e-8


def test_rows_fall_along_the_way_where_only_the_window_is_read():
    rows = summarised(found("streaming"))
    spans = [rows["streaming", None, str(span + 1)] for span in range(SPANS)]
    assert [row["first_token"] for row in spans] == [16 * span for span in range(SPANS)]
    read = [np.mean([3 / (90 + 16 * span + step + 1) for step in range(16)]) for span in range(SPANS)]
    assert [row["rows"] for row in spans] == pytest.approx(read)


def test_a_seal_that_is_given_is_the_only_one():
    assert [c.config.parameters.seal_tokens for c in found("lsh", "0.05,0.2", "--seal-tokens", "32")] == [32, 32]
    assert [c.config.parameters.seal_tokens for c in found("lsh", "0.05")] == [64, 1024]


def test_end_tokens_are_not_drawn():
    fed = []
    every = LongSetting(20, BLOCKS, 1, 0.0)
    greedy = list(measure_long(MODEL, ENCODE, found("dense"), every, Journal(None, SETTINGS)))

    class Recorded(long_generation.Sampler):
        def __call__(self, logits):
            fed.append(int(super().__call__(logits)))
            return super().__call__(logits)

    assert len(greedy) == BLOCKS
    config = found("dense")[0].config
    prompt = long_generation.opening(ENCODE, 20, 0, 0)
    list(long_generation.follow(MODEL, prompt, [({}, config)], every, Recorded()))
    most = max(set(fed), key=fed.count)
    fed.clear()
    ending = type(MODEL)("tiny", MODEL.shape, MODEL.weights, folder=None, end_tokens=frozenset({most}))
    list(long_generation.follow(ending, prompt, [({}, config)], every, Recorded()))
    assert most not in fed


def test_what_was_followed_is_not_followed_again(followed, tmp_path):
    file = tmp_path / "found.journal"
    few = LongSetting(90, BLOCKS, 1, 0.7)
    first = measured(found("streaming"), few, Journal(file, SETTINGS))
    assert followed == [["streaming"]]
    more = LongSetting(90, BLOCKS, 2, 0.7)
    again = measured(found("streaming,uniform", "0.05"), more, Journal(file, SETTINGS))
    assert followed[1:] == [["uniform"], ["streaming", "uniform"]]
    assert again[:BLOCKS] == first
    assert len(again) == 4 * BLOCKS
    for other in (LongSetting(90, BLOCKS, 1, 0.5), LongSetting(91, BLOCKS, 1, 0.7), LongSetting(90, 65, 1, 0.7)):
        measured(found("streaming"), other, Journal(file, SETTINGS))
    assert len(followed) == 6, "other settings are other records"


def test_a_sample_that_was_interrupted_is_followed_again(followed, tmp_path):
    file, chosen = tmp_path / "found.journal", found("streaming")
    running = measure_long(MODEL, ENCODE, chosen, LongSetting(90, BLOCKS, 2, 0.7), Journal(file, SETTINGS))
    for _ in range(BLOCKS + 3):
        next(running)
    running.close()
    measured(chosen, LongSetting(90, BLOCKS, 2, 0.7), Journal(file, SETTINGS))
    assert len(followed) == 3, "the first sample once, the second twice"


def test_samples_are_different_texts_of_the_same_seed():
    two = LongSetting(90, BLOCKS, 2, 0.7)
    first, again = (measured(found("streaming"), two) for _ in range(2))
    assert first == again
    kl = np.array([record["kl"] for record in first]).reshape(2, BLOCKS)
    assert not np.allclose(kl[0], kl[1])


def test_intervals_hold_the_mean_and_speak_of_samples():
    values = np.random.default_rng(0).normal(1, 1, (400, 1))
    low, high = interval(values)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * 0.05, values.mean() + 1.96 * 0.05), abs=0.02)
    apart = np.repeat([[0.0], [10.0]], 64, axis=1)
    assert interval(apart) == (0, 10), "samples that differ: blocks within them cannot narrow it"
    assert interval(np.full((3, 8), 2.0)) == (2, 2)


def test_a_run_too_short_for_its_blocks_is_refused():
    with pytest.raises(ArgumentError, match="long_generation: expected at least 64 tokens, got 63"):
        LongSetting(90, 63, 1, 0.7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "lsh", "--long-generation", "9"], "long_generation: expected at least 64 tokens, got 9"),
        (["--long-generation", "99"], "methods: expected those to compare"),
        (["--methods", "best", "--long-generation", "99"], "methods: expected some of dense"),
        (["--methods", "lsh", "--long-generation", "99", "--temperature", "-1"], "temperature: expected at least 0"),
        (["--methods", "lsh", "--long-generation", "99", "--steps", "9"], "steps: expected a text or --texts with it"),
        (["--methods", "lsh", "--long-generation", "99", "--setup", "A"], "setup: expected --tasks with it"),
        (["--methods", "lsh", "--long-generation", "8000"], "context: expected at most 192 tokens before 8000 steps"),
        (["--methods", "lsh", "--long-generation", "99", "--context", "0"], "context: expected at least 1, got 0"),
        (["--methods", "lsh", "--long-generation", "99", "--planted"], "not allowed with argument --long-generation"),
        (["--prompt-file", "a", "--tasks", "vt"], "prompt_file: expected a text with it, got --tasks"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_one_line_and_exit_2(options, message, capsys):
    try:
        code = main(["accuracy", *options])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1]
    assert len(lines) == 1


def test_the_command_prints_spans_and_writes_records(tmp_path, capsys, monkeypatch):
    model = type("Model", (), {**MODEL.__dict__, "tokenizer": lambda self: ByteTokenizer()})()
    monkeypatch.setattr("truffle.bench.long_command.loaded", lambda arguments: model)
    file = tmp_path / "found.json"
    options = ["--long-generation", "64", "--samples", "1", "--methods", "streaming,lsh", *NARROW, "--json", str(file)]
    assert main(["accuracy", *options]) == 0
    records = json.loads(file.read_text())["records"]
    assert [record["op"] for record in records[:27]] == ["accuracy_long_summary"] * 27
    assert len(records) == 27 + 3 * BLOCKS
    assert (tmp_path / "found.json.journal").exists()
    shown = capsys.readouterr().out
    assert "64 tokens of smollm2 at temperature 0.7 after 256, 1 samples" in shown
    assert "seal_tokens 64" in shown
    assert "lsh (9, 101)  " in shown
