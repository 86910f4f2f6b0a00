"""What a report says of a study that read no text, timed no whole steps, or ran equal settings in other ways."""

import argparse
from pathlib import Path

import pytest

from truffle.autotune import grid
from truffle.autotune.facts import facts
from truffle.autotune.grid_space import space_of
from truffle.bench.accuracy import Setting
from truffle.model.tuned import Study as Summary
from truffle.reports.answer import accuracy_source
from truffle.reports.record import parse
from truffle.reports.render import html, markdown
from truffle.reports.runs_as import runs_as

GRID = Path(__file__).parents[2] / "autotune" / "grids" / "epyc-2-cores.json"


@pytest.fixture
def replayed(record) -> dict:
    """The made-up study with what a replay of the recorded grid says of itself."""
    found = grid.load(GRID)
    space, on = space_of(found, GRID), found.errors_on
    given = argparse.Namespace(
        command_line="c", model=on.model, max_kl=None, trials=1, timeout=1.0, gpu="none", workload=found.workload,
        methods="lsh", out=None, replay=GRID,
    )  # fmt: skip
    summary = Summary(trials=1, failed=0, seconds=1.0, stop_reason="trials", complete=True)
    told = facts(given, Setting(on.context, on.samples, on.steps), None, summary, space.workload, space.target)
    return record | {name: told[name] for name in ("accuracy_model", "throughput_of")}


def test_a_replay_claims_no_text_no_model_and_no_whole_steps(replayed):
    study = parse(replayed)
    for words in (markdown(study), html(study)):
        assert "pydoc" not in words
        assert "smaller model" not in words
        assert "no model has made these figures" in words
        assert "Tokens/s are of attention layers alone." in words
        assert "attention layers alone, estimated" in words


def test_what_stands_in_for_the_workload_is_named(record):
    assert "of pydoc_data.topics" in accuracy_source(parse(record))
    assert "another model than the workload" in accuracy_source(parse(record))
    record["accuracy_model"]["id"] = record["workload"]["model"]
    assert "another context than the workload" in accuracy_source(parse(record))
    record["accuracy_model"]["proxy"] = False
    assert "proxy" not in accuracy_source(parse(record))
    assert "Tokens/s are of" not in markdown(parse(record))


def test_how_a_trial_runs_is_said_where_the_default_runs_otherwise(record):
    trial = record["trials"][17]
    trial |= {"threads": 8, "isa": "avx512", "wait_policy": "spin", "attend_with": "retrieve_attend", "window": 128}
    study = parse(record)
    assert runs_as(study, study.trials[2]) == ""
    words = "threads 8, avx512, spin, window 128, retrieve_attend"
    assert runs_as(study, study.trials[17]) == words
    assert f'<td class="runs">{words}</td>' in html(study)
    assert f"| {words} |" in markdown(study).replace("\\", "")


def test_how_a_method_without_own_fields_runs_is_read_from_its_config(record):
    record["trials"][17] |= {"store_format": None, "config": '{"execution": {"store_format": "int8", "threads": 3}}'}
    study = parse(record)
    assert "int8" in runs_as(study, study.trials[17])
    assert "threads" not in runs_as(study, study.trials[17])


def test_tokens_a_second_of_exact_ways_come_second(record):
    head = html(parse(record)).split("<th>Baseline</th>")[1]
    assert head.startswith('<th class="num">Tokens/s</th>')
