"""A limit on the card's memory: how the search takes it, where it is written, and that it is enforced."""

from __future__ import annotations

import argparse
import dataclasses
import json

import pytest
import torch

from tests.autotune.fakes import record, space
from truffle.autotune import outputs, whole_layers
from truffle.autotune.answer import decide
from truffle.autotune.baselines import Baseline, exact_baselines, fastest
from truffle.autotune.exact_runs import measured
from truffle.autotune.measuring import Measured, MeasureError
from truffle.autotune.memory import require_weights_fit
from truffle.autotune.options import fingerprint, resolved_command
from truffle.autotune.target import _find_limit, find_target
from truffle.autotune.whole_layers import WholeLayers
from truffle.kernels import profiles
from truffle.kernels.checks import ArgumentError
from truffle.model import tuned
from truffle.model.config import DecodeConfig, Execution, LshParameters

GIB = 2**30
FIGURES = dict.fromkeys(("top1", "perplexity_ratio", "output_error", "density", "rows"), 0.5)
EXACT = Baseline("all on the GPU", True, None, batch_size=2, tokens_per_s=10.0)
ON_CARD = DecodeConfig(
    parameters=LshParameters(), implementations={"retrieve": "gpu_triton", "sparse_attend": "gpu_triton"}
)


def test_a_card_under_a_limit_is_as_small_a_card():
    held, small = space(gpu="h200", vram_limit_gib=24).target, space(gpu="4090").target
    assert held.usable_gpu_bytes == small.usable_gpu_bytes == int(24 * GIB * 0.95) - GIB
    assert held.card == "h200 held to 24.0 GiB"
    assert small.card == "rtx-4090"


def test_exact_ways_are_held_to_it_too():
    free, held = (space(gpu="h200", vram_limit_gib=limit) for limit in (None, 24))
    assert fastest(exact_baselines(free.workload, free.target)).name == "all on the GPU"
    ways = {way.name: way for way in exact_baselines(held.workload, held.target)}
    assert ways["all on the GPU"].reason.startswith("needs 28.9 GB of the GPU's usable 23.4 GB")
    assert all(way.gpu_memory_bytes <= held.target.usable_gpu_bytes for way in ways.values() if way.fits)


def test_batches_are_held_to_it():
    free, held = (space(gpu="h200", vram_limit_gib=limit) for limit in (None, 20))
    assert held.most_batch < free.most_batch
    assert held.most_batch == 3  # a request: two dense layers and 30 of 1,092 slots, 0.94 of 19.33 - 16.06 GB
    assert (
        held.ruled_out(DecodeConfig(parameters=LshParameters(), execution=Execution(batch_size=4)), 0.0)
        == "needs 19.8 GB of the GPU's usable 19.3 GB"
    )


@pytest.mark.parametrize(
    ("size", "card", "message"),
    [
        ("24", "4090", "vram_limit: expected a size such as 24GiB, got '24'"),
        ("0GiB", "4090", "vram_limit: expected a size such as 24GiB, got '0GiB'"),
        ("24GiB", None, "vram_limit: expected a card to hold to it .*, got no GPU"),
    ],
)
def test_limits_that_make_no_sense_are_refused(size, card, message):
    with pytest.raises(ValueError, match=message):
        _find_limit(size, profiles.load(card) if card else None)


def test_a_card_is_held_to_no_more_than_it_has():
    assert _find_limit("48GiB", profiles.load("4090")) == 24 * GIB
    assert _find_limit(None, None) is None


def test_the_weights_have_to_fit():
    tight = space(gpu="h200", vram_limit_gib=12)
    with pytest.raises(ArgumentError, match=r"vram_limit: expected room for 15.0 GiB of weights, got 12.0 GiB, of"):
        require_weights_fit(tight.workload.shape, tight.target)
    require_weights_fit(tight.workload.shape, space(gpu="h200", vram_limit_gib=20).target)
    require_weights_fit(tight.workload.shape, space(gpu="t4").target)  # the exact ways say so of a card


def test_a_limit_is_refused_before_the_host_is_calibrated(monkeypatch):
    monkeypatch.setattr("truffle.autotune.target.bandwidth.calibrate", lambda seconds: pytest.fail("calibrated"))
    with pytest.raises(ValueError, match="vram_limit: expected a size"):
        find_target("4090", None, "lots", 1.0)


def test_the_study_and_its_command_depend_on_it():
    arguments = argparse.Namespace(
        model="smollm2", accuracy_context=4096, accuracy_samples=2, accuracy_steps=24, max_kl=None, seed=0,
        max_latency_ms=None, min_score=[], accuracy_only=False, vram_limit="20GiB", gpu="auto", methods="lsh",
    )  # fmt: skip
    held, free = space(vram_limit_gib=20), space()
    marks = [fingerprint(arguments, found.workload, found.target) for found in (held, free)]
    assert {name for name in marks[0] if marks[0][name] != marks[1][name]} == {"vram_limit_bytes"}
    assert "--vram-limit 20GiB" in resolved_command(arguments, held.target)


def test_the_tuned_file_and_the_study_say_what_the_answer_holds_for(tmp_path):
    held = space(vram_limit_gib=20)
    found = record(0, 0.01, 20.0, origin="default", wait_policy="spin", micro_batches=2, batch_size=2, **FIGURES)
    summary = tuned.Study(trials=1, failed=0, seconds=1.0, stop_reason="trials", complete=True)
    answer = decide([found], EXACT, 0.02)
    config = outputs.tuned_config(answer, EXACT, [found], held, "smollm2", summary)
    tuned.save(config, tmp_path / "tuned.json")
    read = tuned.load(tmp_path / "tuned.json")
    assert read.hardware.vram_limit_bytes == 20 * GIB
    assert "hardware.vram_limit_bytes" in read.match.equal
    assert (read.config.execution.wait_policy, read.config.execution.micro_batches) == ("spin", 2)
    assert read.evidence.throughput["tokens_per_s"].measured_on.startswith("rtx-4090 held to 20.0 GiB, test CPU")
    study = outputs.study_record(answer, [EXACT], [found], held.target, held.workload)
    assert study["gpu"]["vram_limit_bytes"] == 20 * GIB
    data = json.loads((tmp_path / "tuned.json").read_text())
    del data["hardware"]["vram_limit_bytes"]  # as files before the limit had it
    assert tuned.TunedConfig.model_validate(data).hardware.vram_limit_bytes is None


class Card:
    """A card of 100 GiB that only remembers what it was asked for."""

    def __init__(self, monkeypatch, fail_above: int | None = None):
        self.fractions: list[float] = []
        self.runs: list[tuple[DecodeConfig, float]] = []
        self.made: list[str] = []
        self._fail_above = fail_above
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (100 * GIB, 100 * GIB))
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr("truffle.autotune.whole_layers.limit_vram", self._limit)
        monkeypatch.setattr(whole_layers.whole_step, "time_steps", self._run)
        monkeypatch.setattr(whole_layers.synthetic, "material", self._material)

    def _limit(self, limit_bytes, needed_bytes):
        self.fractions.append(limit_bytes / (100 * GIB))
        return limit_bytes

    def _material(self, workload, device, dtype):
        self.made.append(f"{workload.id} on {device}")
        return self.made[-1]

    def _run(self, workload, config, steps, device, dtype, material, samples_us, within_s):
        assert material == f"{workload.id} on {device}"
        self.runs.append((config, self.fractions[-1] if self.fractions else 1.0))
        batch = config.execution.batch_size
        if self._fail_above is not None and batch > self._fail_above:
            raise torch.OutOfMemoryError
        rate = 10.0 * batch
        return {"tokens_per_s": rate, "tokens_per_s_low": rate, "tokens_per_s_high": rate, "median_us": 1e6 / 10,
                "density": 1.0}, []  # fmt: skip


def test_runs_on_the_card_are_held_to_it(monkeypatch):
    card, held = Card(monkeypatch), space(gpu="h200", vram_limit_gib=24, present=True)
    WholeLayers(held.workload, held.target).run(DecodeConfig(parameters=LshParameters()))
    assert [fraction for _, fraction in card.runs] == [0.24]


def test_without_a_limit_nothing_is_held(monkeypatch):
    card, free = Card(monkeypatch), space(gpu="h200", present=True)
    WholeLayers(free.workload, free.target).run(DecodeConfig(parameters=LshParameters()))
    assert len(card.runs) == 1
    assert card.fractions == []


def test_what_does_not_fit_is_not_run(monkeypatch):
    card, held = Card(monkeypatch), space(gpu="h200", vram_limit_gib=24, present=True)
    with pytest.raises(RuntimeError, match=r"needs 36.4 GB of the GPU's usable 23.4 GB"):
        WholeLayers(held.workload, held.target).run(ON_CARD)
    assert card.runs == []


class Steps:
    """A bench that runs whole steps."""

    def __init__(self, layers: WholeLayers) -> None:
        self._layers = layers

    def measure(self, config, fidelity, repeat=0):
        try:
            return Measured(self._layers.run(config), 0.0)
        except torch.OutOfMemoryError as error:
            raise MeasureError("out of memory", "out of memory") from error


def test_an_exact_way_is_run_as_far_as_memory_lasts(monkeypatch):
    card, held = Card(monkeypatch, fail_above=2), space(gpu="h200", vram_limit_gib=80, present=True)
    way, bench = dataclasses.replace(EXACT, batch_size=4), Steps(WholeLayers(held.workload, held.target))
    found = measured(way, bench, 2)
    assert [config.execution.batch_size for config, _ in card.runs] == [1, 2, 4]
    assert len(card.made) == 1, "weights and keys are made once"
    assert (found.batch_size, found.tokens_per_s, found.kind) == (2, 20.0, "measured")
    Card(monkeypatch, fail_above=0)
    none = measured(way, bench, 2)
    assert (none.fits, none.tokens_per_s, none.step_s) == (False, None, None)
    assert none.reason == "failed when it was run: out of memory"
