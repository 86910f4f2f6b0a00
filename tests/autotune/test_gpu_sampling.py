"""Stores and tables on the GPU: memory and bytes by hand, and where the choice is offered."""

from __future__ import annotations

import pytest

from tests.autotune.fakes import record, space
from truffle.autotune import cost_model, gpu_sampling, outputs
from truffle.autotune.answer import decide
from truffle.autotune.baselines import Baseline
from truffle.autotune.bounds import too_slow
from truffle.autotune.memory import does_not_fit, memory
from truffle.autotune.record import ON_GPU, describe
from truffle.bench.calibration import expected_fraction
from truffle.model.config import DecodeConfig, Execution, LshParameters
from truffle.model.shapes import SHAPES

LLAMA, CONTEXT = SHAPES["llama-3.1-8b"], 98_304
KERNELS = {"retrieve": "gpu_triton", "sparse_attend": "gpu_triton"}
ON_HOST = DecodeConfig(parameters=LshParameters(), execution=Execution(batch_size=2))
ON_CARD = ON_HOST.model_copy(update={"implementations": KERNELS})


def test_what_the_host_held_is_the_gpus_to_hold():
    host, card = (memory(LLAMA, config, CONTEXT, has_gpu=True) for config in (ON_HOST, ON_CARD))
    assert card.host_bytes == 0
    assert card.gpu_bytes == host.gpu_bytes + host.host_bytes
    assert card.index_bytes == host.index_bytes
    assert does_not_fit(host, space().target) is None
    assert does_not_fit(card, space().target) == "needs 56.8 GB of the GPU's usable 23.4 GB"
    assert does_not_fit(card, space(gpu="h200").target) is None
    assert "of the GPU's usable 40.7 GB" in does_not_fit(card, space(gpu="h200", vram_limit_gib=41).target)


def test_bytes_of_a_layer():
    p = LshParameters()
    walked, gathered = gpu_sampling.sampling_bytes(LLAMA, ON_CARD, CONTEXT)
    entries = 150 * CONTEXT * expected_fraction(LshParameters(L=1, min_hits=1))
    assert entries > 150 * CONTEXT / 1024, "at least what chance alone puts into a bucket"
    assert walked == pytest.approx(2 * 32 * (10 * entries + 2 * CONTEXT))
    assert gathered == pytest.approx(2 * 32 * 512 * CONTEXT * expected_fraction(p))
    wide = ON_CARD.model_copy(update={"parameters": LshParameters(L=300)})
    more, _ = gpu_sampling.sampling_bytes(LLAMA, wide, CONTEXT)
    assert more == pytest.approx(2 * 32 * (10 * 2 * entries + 4 * CONTEXT)), "counters of two bytes from 256 tables on"


def test_a_step_crosses_no_link_and_leaves_the_host_nothing():
    gpu = space(gpu="h200").target.gpu
    step = gpu_sampling.step_time(LLAMA, ON_CARD, CONTEXT, gpu)
    walked, gathered = gpu_sampling.sampling_bytes(LLAMA, ON_CARD, CONTEXT)
    bandwidth, side = 4.8e12 * 0.89, cost_model.gpu_side(LLAMA, ON_CARD, CONTEXT, gpu)
    assert step.link == step.cpu_retrieve == step.cpu_attend == step.hidden == 0.0
    assert (step.gpu_retrieve, step.gpu_sample) == pytest.approx((30 * walked / bandwidth, 30 * gathered / bandwidth))
    launches = 30 * (2 * (2 + 1) + 3)  # two segments and a sample a request; zeros twice, and one merge
    assert step.launch - side.launch == pytest.approx(launches * gpu.kernel_latency_s.value)


@pytest.mark.parametrize(
    ("options", "offered"),
    [
        ({"gpu": "h200"}, True),
        ({"gpu": "h200", "vram_limit_gib": 24}, False),
        ({"gpu": "4090"}, False),
        ({"gpu": "4090", "workload": "llama-3.2-1b@8k"}, True),
        ({"gpu": "none"}, False),
    ],
)
def test_the_choice_is_offered_where_the_smallest_index_fits(options, offered):
    assert space(**options).may_sample_on_gpu == offered


def test_a_card_that_is_here_must_run_the_kernels(monkeypatch):
    monkeypatch.setattr("truffle.autotune.space.registry.why_not", lambda op, name: "needs triton")
    assert not space(gpu="h200", present=True).may_sample_on_gpu
    assert space(gpu="h200", present=False).may_sample_on_gpu


def test_a_bound_by_the_cards_bandwidth():
    there = space(gpu="h200")
    assert too_slow(ON_HOST, there.workload, there.target, 100.0).startswith("would sample 1.9%: at most 35 tokens/s")
    assert too_slow(ON_CARD, there.workload, there.target, 100.0) is None
    assert too_slow(ON_CARD, there.workload, there.target, 1e6) is not None


def test_it_is_named_in_the_record_the_config_and_the_answer():
    there = space(gpu="h200")
    found = record(3, 0.01, 90.0, attend_with=ON_GPU, batch_size=2)
    config = there.config_of(found)
    assert config.resident
    settings = describe(config)
    assert (settings["attend_with"], settings["label"]) == ("gpu", "lsh (10, 150), on the GPU")
    exact = Baseline("all on the GPU", True, None, batch_size=2, tokens_per_s=10.0)
    tuned = outputs._config(found, exact, there)
    assert tuned.implementations == KERNELS | {"hash_codes": "gpu_triton"}, "tables are built wherever they are kept"
    said = decide([found], exact, 0.02)
    assert "lsh 3 with batch size 2:" in said.headline
    assert any("estimated from bytes alone" in sentence for sentence in said.detail)
