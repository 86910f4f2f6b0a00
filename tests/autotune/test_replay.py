"""Recorded grids: their file and space, what a search of one finds, and a whole run of one without hardware."""

from __future__ import annotations

import json
import shlex
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from truffle.autotune import grid, grid_recorder
from truffle.autotune.cli import main
from truffle.autotune.grid_recorder import Recorder
from truffle.autotune.grid_space import space_of
from truffle.autotune.measuring import MeasureError
from truffle.autotune.neighbours import line_up_neighbour, other
from truffle.autotune.replay import Recording
from truffle.autotune.replay_command import judged
from truffle.autotune.search_quality import Truth, searched
from truffle.kernels.checks import ArgumentError
from truffle.model import tuned
from truffle.model.config import DecodeConfig, LshParameters

FOLDER = Path(grid.__file__).parent / "grids"
CORES, THREADS = FOLDER / "epyc-2-cores.json", FOLDER / "threads-64-vcpus.json"
ACCURACY = {"screen_error": 0.5, "output_error": 0.5, "density": 0.1, "rows": 0.2, "kl": 0.2}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_grid_that_is_checked_in_is_whole_and_small(path, tmp_path):
    found = grid.load(path)
    assert not found.missing
    assert path.stat().st_size < 200_000
    assert {len(samples) for samples in found.step_ms.values()} == {7}
    grid.save(found, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == path.read_text()


@pytest.mark.parametrize("change", [{"gpu": 3}, {"unknown": 1}, {"parts": {"a": {"K": [1, 2]}, "b": {"K": [1, 3]}}}])
def test_what_is_no_grid_is_refused_by_name(change, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({**json.loads(THREADS.read_text()), **change}))
    with pytest.raises(ArgumentError, match=f"{path}: {next(iter(change))}|expected axis K to be"):
        grid.load(path)


def test_a_recording_answers_with_every_sample_and_with_nothing_else():
    space = space_of(grid.load(THREADS), THREADS)
    bench, key = Recording(space), "lsh/10/150/16"
    config, samples = space.configs[key], space.grid.step_ms[key]
    drawn = {bench.measure(config, "throughput").figures["step_ms"] for _ in range(200)}
    assert drawn == set(samples)
    found = bench.measure(config, "throughput").figures
    assert found["tokens_per_s"] == pytest.approx(1e3 / found["step_ms"])
    assert found["tokens_per_s_low"] < found["tokens_per_s"] < found["tokens_per_s_high"]
    for fidelity in ("throughput", "kl", "tasks"):
        with pytest.raises(MeasureError, match=f"no (time|{fidelity})"):
            bench.measure(DecodeConfig(parameters=LshParameters(K=7)), fidelity)


@pytest.mark.parametrize(
    ("path", "seeds"), [(THREADS, 20), (CORES, 3)], ids=lambda value: getattr(value, "stem", value)
)
def test_the_search_comes_near_the_best_sooner_than_chance_and_does_not_flatter_it(path, seeds):
    search, chance = judged(path, 0.3, seeds)
    assert search["evaluations"] <= 0.3 * search["settings"]
    assert search["regret"] <= 0.03
    assert search["regret"] < chance["regret"]
    assert abs(search["claimed"]) < 0.02


@pytest.mark.slow
def test_twenty_searches_of_two_cores():
    test_the_search_comes_near_the_best_sooner_than_chance_and_does_not_flatter_it(CORES, 20)


def test_a_host_that_does_best_with_a_quarter_of_its_threads():
    space = space_of(grid.load(THREADS), THREADS)
    truth = Truth(space)
    assert truth.rates[space.configs["lsh/10/150/16"].model_dump_json()] == truth.best
    assert truth.regret(None) == 1
    assert max(searched(space, truth, 18, seed).regret for seed in range(5)) <= 0.05


def test_a_whole_run_from_a_recording(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["--replay", str(THREADS), "--out", str(out), "--seed", "1"]) == 0
    config, study = tuned.load(out / "tuned.json"), json.loads((out / "study.json").read_text())
    assert config.hardware.kind == "replayed"
    assert config.config.execution.threads == 16
    figures = [config.evidence.throughput["tokens_per_s"], *config.evidence.accuracy.values()]
    assert {figure.kind for figure in figures} == {"replayed"}
    trials = [trial for trial in study["trials"] if trial["label"] == "lsh (10, 150)"]
    assert {trial["threads"] for trial in trials} == {1, 2, 4, 8, 16, 32, 64}
    report = (out / "report.md").read_text()
    assert "By CPU threads, lsh" in report
    assert "Made, not recorded" in report
    capsys.readouterr()
    for stack in ("transformers", "shell"):
        assert main(["export", str(out / "tuned.json"), "--to", stack]) == 0
    assert main(["--replay", str(THREADS), "--out", str(out), "--seed", "1", "--resume"]) == 0
    assert main(["--replay", str(CORES), "--out", str(out), "--seed", "1", "--resume"]) == 2
    assert "the study was made with" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--host", "--vram-limit", "--storage"])
def test_a_recording_takes_no_say_in_what_is_measured(option, capsys):
    assert main(["--replay", str(THREADS), option, "1"]) == 2
    assert "none beside --replay" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--workload", "llama-3.2-1b@8k"),
        ("--gpu", "4090"),
        ("--methods", "quest"),
        ("--model", "nowhere"),
        ("--accuracy-steps", "99"),
    ],
)
def test_what_the_recording_decides_cannot_be_asked_for_otherwise(option, given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    limit = ["--max-kl", "1"]
    assert main(["--replay", str(THREADS), option, given, *limit]) == 2
    name = option[2:].replace("-", "_")
    assert capsys.readouterr().err.startswith(f"error: {name}: expected ")
    assert list(tmp_path.iterdir()) == []


def test_the_command_that_a_replayed_study_names_can_be_given(tmp_path):
    assert main(["--replay", str(THREADS), "--out", str(tmp_path / "one"), "--trials", "3"]) == 0
    named = shlex.split(json.loads((tmp_path / "one/study.json").read_text())["resolved_command"])[3:]
    named[named.index("--out") + 1] = str(tmp_path / "two")
    assert main(named) == 0


def test_a_recorder_goes_on_with_what_is_missing(tmp_path):
    class Timer:
        def samples_s(self, configs):
            return {key: [0.001, 0.002] for key in configs}

        def dense_s(self, batch):
            return 0.01

    found = grid.load(THREADS)
    kept = {key: samples for key, samples in found.step_ms.items() if key.startswith("lsh/10/100/")}
    part = found.model_copy(update={"step_ms": kept, "accuracy": {}})
    recorder = Recorder(part, Timer(), lambda config: ACCURACY, space_of(part, THREADS).workload)
    groups = recorder.groups()
    assert len(groups) == 8, "one of nine pairs of K and L is there"
    now = recorder.measured(groups[0])
    assert now.step_ms[groups[0][0]] == pytest.approx((30 + 2 * 10, 60 + 2 * 10))
    assert {**now.step_ms, **kept} == now.step_ms
    assert list(now.accuracy.values()) == [ACCURACY]
    again = Recorder(now, Timer(), lambda config: ACCURACY, recorder._workload)
    assert again.groups() == groups[1:]


def test_a_recorder_refuses_the_grid_of_another_machine(monkeypatch, capsys):
    monkeypatch.setattr(grid_recorder, "GridTimer", lambda *_: None)
    monkeypatch.setattr(grid_recorder, "errors_on", lambda *_: (None, None))
    assert main(["record", str(THREADS), "--workload", "llama-3.1-8b@96k"]) == 2
    assert "expected a grid of this machine" in capsys.readouterr().err
    assert main(["record", str(THREADS), "--workload", "llama-3.1-8b@8k"]) == 2
    assert "workload: expected llama-3.1-8b@96k" in capsys.readouterr().err


def test_a_neighbour_that_was_asked_for_is_not_lined_up_again():
    """The family alone may be another, and codes of the other have no probing."""
    study = optuna.create_study(directions=("minimize", "maximize"))
    families = CategoricalDistribution(("simhash", "cross_polytope 8"))
    one = {"family": "simhash", "probing": "none"}, {"family": families, "probing": CategoricalDistribution(("none",))}
    other = {"family": "cross_polytope 8"}, {"family": families}
    add = partial(optuna.trial.create_trial, values=(0.1, 1.0))
    study.add_trial(add(params=one[0], distributions=one[1]))
    study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))  # killed as it was asked for
    line_up_neighbour(study, 0)
    (waiting,) = [trial for trial in study.trials if trial.state == TrialState.WAITING]
    assert waiting.system_attrs["fixed_params"]["family"] == "cross_polytope 8"
    study.tell(study.ask().number, state=TrialState.FAIL)
    study.add_trial(add(params=other[0], distributions=other[1]))
    line_up_neighbour(study, 0)
    assert not [trial for trial in study.trials if trial.state == TrialState.WAITING]


def test_a_neighbour_is_another_value_and_a_number_a_near_one():
    random = np.random.default_rng(0)
    assert {other(CategoricalDistribution(("a", "b", "c")), "b", random) for _ in range(50)} == {"a", "c"}
    near = [other(IntDistribution(1, 512, log=True), 64, random) for _ in range(500)]
    assert 64 not in near
    assert np.median(np.abs(np.log(near) - np.log(64))) < np.log(512) / 6
    share = [other(FloatDistribution(0.005, 0.3, log=True), 0.3, random) for _ in range(100)]
    assert all(0.005 <= value < 0.3 for value in share)
    edge = [other(FloatDistribution(0.002, 0.1, log=True), 0.099, random) for _ in range(50)]
    assert max(edge) == 0.1, "and not what its logarithm comes back as"
    assert {other(IntDistribution(0, 1), 0, random) for _ in range(20)} == {1}
