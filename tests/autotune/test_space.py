"""What the sampler is asked for, point by point: only what makes a difference."""

from __future__ import annotations

from dataclasses import replace

import optuna
import pytest

from tests.autotune.fakes import space
from truffle.autotune.record import TrialRecord, describe
from truffle.model.config import DecodeConfig


def drawn(count: int = 300, **options) -> list[tuple[DecodeConfig, dict]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials, there = [study.ask() for _ in range(count)], space(**options)
    return [(there.suggest(trial), trial.params) for trial in trials]


def test_halves_need_a_gpu_and_two_requests():
    found = drawn()
    assert {config.execution.micro_batches for config, _ in found} == {1, 2}
    assert all(("micro_batches" in params) == (config.execution.batch_size > 1) for config, params in found)
    assert all("micro_batches" not in params for _, params in drawn(gpu="none", memory_gib=64))


def test_waiting_and_pinning_need_threads_that_wait():
    found = drawn()
    assert {config.execution.wait_policy for config, _ in found} == {"park", "spin"}
    for config, params in found:
        assert ("wait_policy" in params) == ("pinning" in params) == (config.execution.threads > 1)
        assert config.execution.threads > 1 or config.execution.wait_policy == "park"


def test_filling_is_asked_where_a_batch_leaves_room_for_some_but_not_all_layers():
    for gpu, batches in (("4090", range(1, 5)), ("h200", range(10, 43))):
        there, found = space(gpu=gpu), drawn(gpu=gpu)
        for config, params in found:
            on_host, batch = not config.resident, config.execution.batch_size
            own = params["dense_layers"] == "0,16"
            assert ("fill_vram" in params) == (on_host and batch in batches and own)
            layers = there.filling(batch) if params.get("fill_vram") else params["dense_layers"]
            assert describe(config)["dense_layers"] == layers
        assert {params.get("fill_vram") for _, params in found} == {None, False, True}
    assert all("fill_vram" not in params for _, params in drawn(gpu="none", memory_gib=64))


def test_what_samples_on_the_gpu_asks_nothing_of_the_host():
    found = drawn(gpu="h200")
    there = [(config, params) for config, params in found if describe(config)["attend_with"] == "gpu"]
    assert 0 < len(there) < len(found)
    for config, params in there:
        assert not {"threads", "pinning", "wait_policy", "micro_batches", "attend_with", "fill_vram"} & set(params)
        assert config.parameters.probing.kind != "directed"
    assert all("on_gpu" not in params for config, params in found if config.parameters.probing.kind == "directed")
    assert all("on_gpu" not in params for _, params in drawn(gpu="4090"))


@pytest.mark.parametrize("gpu", ["4090", "h200"])
def test_every_point_comes_back_from_its_record(gpu):
    there = space(gpu=gpu)
    for config, _ in drawn(gpu=gpu):
        kept = TrialRecord.from_dict({"number": 0, "status": "complete", "origin": "search", **describe(config)})
        assert there.config_of(kept) == config


def test_the_first_points_are_asked_whole():
    """A planned point names every setting that the sampler would otherwise draw."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for gpu in ("4090", "h200", "none"):
        there = space(gpu=gpu)
        for _, point in there.first_points():
            study.enqueue_trial(point)
            trial = study.ask()
            assert there.suggest(trial) == there.config(point)
            assert set(trial.params) == set(point)


def test_instruction_sets_and_kernels_are_asked_where_there_is_a_choice(monkeypatch):
    monkeypatch.setattr("truffle.autotune.host_choices.why_not", lambda isa: None)
    monkeypatch.setattr(
        "truffle.autotune.space.kernels", lambda ops: ("auto", "cpu_numba") if len(ops) > 1 else ("auto",)
    )
    there = space()
    there = replace(there, target=replace(there.target, host=replace(there.target.host, isa="avx512")))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(100):
        trial = study.ask()
        config = there.suggest(trial)
        named = config.implementations.get("retrieve", "auto")
        assert ("isa" in trial.params) == (named == "auto")
        assert ("kernels" in trial.params) == (not config.fused)
        seen.add((config.execution.isa, named))
    assert seen == {("avx2", "auto"), ("avx512", "auto"), ("avx512", "cpu_numba")}
    assert there.config({"batch_size": 1}).execution.isa == "avx512"


def test_what_is_attended_exactly_is_asked_and_told_by_the_record():
    for config, params in drawn():
        p = config.parameters
        assert (p.sink, p.window) == (params["sink"], params["window"])
        described = describe(config)
        assert (described["sink"], described["window"]) == (p.sink, p.window)
        assert params.get("fill_vram") or described["dense_layers"] == params["dense_layers"]


def test_a_space_is_told_from_another_by_name():
    marks, more = space().marks, space(gpu="h200").marks
    assert {name for name in marks if marks[name] != more[name]} == {"batch_size", "on_gpu"}
    assert space(methods=("lsh", "quest")).marks.keys() - marks.keys() == {"quest"}
