"""How a step is put together where the card is not here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.autotune.fakes import rates, space
from truffle.autotune import cost_model, gpu_sampling, known_error, overlap
from truffle.autotune.baselines import exact_baselines
from truffle.autotune.host_model import HostKernels
from truffle.autotune.host_timing import LayerTime
from truffle.autotune.options import require_timed
from truffle.autotune.predict import Machine, step_time
from truffle.autotune.target import Target, host_of
from truffle.autotune.throughput import ThroughputMeter
from truffle.bench.bandwidth import HostCalibration
from truffle.kernels import profiles
from truffle.model.config import DecodeConfig, Execution, LshParameters, ScanParameters
from truffle.model.shapes import SHAPES

HOST = Path(__file__).parents[2] / "reports/results/h200/host.json"


@pytest.fixture
def asked(monkeypatch) -> list:
    """What the host timer was asked for; a layer takes it 3 ms."""
    calls = []

    class Timer:
        def __init__(self, workload, threads, seed):
            pass

        def measure(self, config, threads, pause_s=0.0, seconds=0.0):
            calls.append((config.execution, threads, pause_s))
            return LayerTime(1e-3, 2e-3, (2.7e-3, 3.6e-3), 0.02, (3e-3,))

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
    assert pause == overlap.pause_seconds(there.workload.shape, lsh(batch_size=2), 98_304, there.target.gpu) > 5e-4
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
    assert found["samples"] == {"layer_ms": [3.0]}
    rates = [found[name] for name in ("tokens_per_s", "tokens_per_s_high", "tokens_per_s_low")]
    off = known_error.find(there.target.gpu, "lsh")
    assert off is not None
    bounds = [steps[0].total, off.seconds(steps[1].total)[0], off.seconds(steps[2].total)[1]]
    assert rates == pytest.approx([2 / seconds for seconds in bounds])
    assert rates[2] < 2 / steps[2].total
    assert rates[1] > 2 / steps[1].total


@pytest.mark.parametrize("codes", ["auto", "host"])
def test_a_scan_is_predicted_from_the_hosts_calibration(asked, codes):
    host = host_of(HostCalibration.load(HOST))
    target = Target(profiles.load("rtx-4090"), False, host, ())
    config = DecodeConfig(parameters=ScanParameters(), execution=Execution(threads=15, codes=codes))
    require_timed(("lsh", "scan"), target)
    found = ThroughputMeter(space().workload, target, 2, 0).measure(config)
    step = step_time(SHAPES["llama-3.1-8b"], config, 98_304, Machine(target.gpu, HostKernels(host.kernels)))
    off = known_error.find(target.gpu, "scan", "predicted")
    assert asked == [], "nothing is timed"
    assert off is not None
    narrower = known_error.find(target.gpu, "scan")
    assert narrower is not None
    assert off.errors.p90 > narrower.errors.p90, "the host's part is predicted too"
    assert (found["throughput_kind"], found["step_ms"]) == ("estimated", pytest.approx(step.total * 1e3))
    assert found["tokens_per_s_low"] == pytest.approx(1 / off.seconds(step.total)[1])
    assert found["sampled_fraction"] == pytest.approx(0.02, rel=0.5)
    with pytest.raises(ValueError, match="or its host is calibrated"):
        require_timed(("lsh", "scan"), dataclasses.replace(target, host=dataclasses.replace(host, kernels=())))


def test_sampling_on_the_gpu_is_estimated_without_the_host(asked):
    there = space(gpu="h200")
    config = lsh().model_copy(update={"implementations": {"retrieve": "gpu_triton", "sparse_attend": "gpu_triton"}})
    found = ThroughputMeter(there.workload, there.target, 2, 0).measure(config)
    step = gpu_sampling.step_time(there.workload.shape, config, 98_304, there.target.gpu)
    assert asked == []
    assert (found["throughput_kind"], found["step_ms"]) == ("estimated", pytest.approx(step.total * 1e3))
    assert found["sampled_fraction"] == pytest.approx(0.02, rel=0.2)


def test_a_reference_method_takes_the_cpus_time_in_every_layer_and_hides_nothing(asked):
    there = space(gpu="h200")
    config = DecodeConfig(method="quest", execution=Execution(threads=4, batch_size=2))
    found = ThroughputMeter(there.workload, there.target, 2, 0).measure(config)
    rest = cost_model.gpu_side(there.workload.shape, config, 98_304, there.target.gpu)
    assert asked == [(config.execution, 2, 0.0)]
    assert found["ms_cpu_attend"] == pytest.approx(30 * 2.0)
    assert found["step_ms"] == pytest.approx(rest.total * 1e3 + 30 * 2.0)
    assert found["tokens_per_s_low"] < found["tokens_per_s"] == pytest.approx(2e3 / found["step_ms"])
    assert found["tokens_per_s"] < found["tokens_per_s_high"]
    assert (found["throughput_kind"], found["ms_link"], found["ms_hidden"]) == ("estimated", 0.0, 0.0)


def test_another_hosts_reference_is_carried_over_by_what_both_read(asked, monkeypatch):
    there = space(gpu="h200")
    host = dataclasses.replace(there.target.host, here=False)
    monkeypatch.setattr("truffle.autotune.throughput.bandwidth.host_rates", lambda threads, *_: rates(threads, 0.5e9))
    meter = ThroughputMeter(there.workload, dataclasses.replace(there.target, host=host), 2, 0)
    found = meter.measure(DecodeConfig(method="quest", execution=Execution(threads=4)))
    assert found["ms_cpu_attend"] == pytest.approx(30 * 2.0 * (10 * 0.5 * 2) / (10 * 4))


def test_streaming_and_dense_are_the_cards_alone(asked):
    there = space(gpu="h200")
    meter = ThroughputMeter(there.workload, there.target, 2, 0)
    streaming, dense = (meter.measure(DecodeConfig(method=method)) for method in ("streaming", "dense"))
    assert asked == []
    bandwidth = cost_model.gpu_bandwidth(there.target.gpu)
    assert streaming["ms_gpu_attend"] == pytest.approx(
        ((2 * 98_304 + 30 * 68) * 4096 / bandwidth + 32 * 6 * 3.5e-6) * 1e3
    )
    assert (streaming["sampled_fraction"], dense["sampled_fraction"]) == (0.0, None)
    exact = next(way for way in exact_baselines(there.workload, there.target) if way.name == "all on the GPU")
    batch = DecodeConfig(method="dense", execution=Execution(batch_size=exact.batch_size))
    assert meter.measure(batch)["tokens_per_s"] == pytest.approx(exact.tokens_per_s)
