"""How a step is put together where the card is not here."""

from __future__ import annotations

import pytest

from tests.autotune.fakes import space
from truffle.autotune import gpu_sampling, overlap
from truffle.autotune.host_timing import LayerTime
from truffle.autotune.throughput import ThroughputMeter
from truffle.model.config import DecodeConfig, Execution, LshParameters


@pytest.fixture
def asked(monkeypatch) -> list:
    """What the host timer was asked for; a layer takes it 3 ms."""
    calls = []

    class Timer:
        def __init__(self, workload, threads, seed):
            pass

        def measure(self, config, threads, pause_s, seconds):
            calls.append((config.execution, threads, pause_s))
            return LayerTime(1e-3, 2e-3, (2.7e-3, 3.6e-3), 0.02)

    monkeypatch.setattr("truffle.autotune.throughput.HostTimer", Timer)
    return calls


def lsh(**execution) -> DecodeConfig:
    return DecodeConfig(parameters=LshParameters(), execution=Execution(threads=2, **execution))


def test_the_host_is_timed_as_it_waits_in_a_step(asked):
    there = space()
    meter = ThroughputMeter(there.workload, there.target, 2, 0)
    meter.measure(lsh(batch_size=2, wait_policy="spin"))
    meter.measure(lsh(batch_size=5, micro_batches=2))
    (whole, threads, pause), (half, _, none) = asked
    assert (whole.batch_size, whole.wait_policy, threads) == (2, "spin", 2)
    assert pause == overlap.pause_seconds(there.workload.shape, lsh(batch_size=2), there.target.gpu) > 5e-4
    assert (half.batch_size, none) == (3, 0.0)


def test_the_estimate_is_the_overlapped_step(asked):
    there = space()
    config = lsh(batch_size=2, micro_batches=2)
    found = ThroughputMeter(there.workload, there.target, 2, 0).measure(config)
    steps = [
        overlap.step_time(there.workload.shape, config, 98_304, there.target.gpu, scale * 1e-3, scale * 2e-3)
        for scale in (1.0, 0.9, 1.2)
    ]
    assert found["step_ms"] == pytest.approx(steps[0].total * 1e3)
    assert found["ms_hidden"] == pytest.approx(steps[0].hidden * 1e3)
    assert found["ms_hidden"] > 0
    rates = [found[name] for name in ("tokens_per_s", "tokens_per_s_high", "tokens_per_s_low")]
    assert rates == pytest.approx([2 / step.total for step in steps])


def test_sampling_on_the_gpu_is_estimated_without_the_host(asked):
    there = space(gpu="h200")
    config = lsh().model_copy(update={"implementations": {"retrieve": "gpu_triton", "sparse_attend": "gpu_triton"}})
    found = ThroughputMeter(there.workload, there.target, 2, 0).measure(config)
    step = gpu_sampling.step_time(there.workload.shape, config, 98_304, there.target.gpu)
    assert asked == []
    assert (found["throughput_kind"], found["step_ms"]) == ("estimated", pytest.approx(step.total * 1e3))
    assert found["sampled_fraction"] == pytest.approx(0.02, rel=0.2)
