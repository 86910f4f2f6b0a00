"""Measures the throughput of a point: the workload on the target."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from truffle.autotune import cost_model, gpu_sampling, overlap
from truffle.autotune.cost_model import StepTime
from truffle.autotune.host_model import HostKernels
from truffle.autotune.host_timing import SECONDS, HostTimer, LayerTime
from truffle.autotune.known_error import KnownError, find
from truffle.autotune.predict import Machine, step_time
from truffle.autotune.target import Target
from truffle.autotune.whole_layers import WholeLayers
from truffle.bench import bandwidth
from truffle.bench.bandwidth import HostRates
from truffle.bench.calibration import expected_fraction
from truffle.bench.kinds import layer_kinds
from truffle.bench.workloads import Workload
from truffle.kernels import hardware
from truffle.model.config import DecodeConfig, DenseParameters, LshParameters, ScanParameters, SelectingParameters

GATHER, READ = "gather_512_bytes_per_s", "read_bytes_per_s"


class ThroughputMeter:
    """Throughput of the workload on the target.

    Where the target's card is here, whole steps are run on it; where there is none, a few layers of each kind are run
    on the machine itself and scaled. Otherwise the CPU's part is measured here on one layer, carried over to another
    host by the ratio of gather rates where one is given, and the rest of the step is estimated from the card's profile,
    as is what overlaps; all of a step that samples on the GPU, or samples nothing, is. A reference method has no
    kernels: its layers' attention is timed as it runs on this machine's CPU, wherever its keys would be. A scan's step
    is predicted, the host's part from its calibration.

    Attributes:
        whole_layers: runs layers on the target itself; None where that is not this machine.
    """

    def __init__(self, workload: Workload, target: Target, threads: int, seed: int) -> None:
        self._workload, self._target, self._threads = workload, target, threads
        self._timer = HostTimer(workload, threads, seed)
        self._rates_here: dict[int, HostRates] = {}
        self.whole_layers = WholeLayers(workload, target) if target.is_here else None

    def measure(self, config: DecodeConfig, seconds: float = SECONDS) -> dict[str, Any]:
        """Figures of a record: tokens a second with interval, kind, parts of a step, and raw `samples`."""
        if self.whole_layers:
            return self.whole_layers.run(config)
        if isinstance(config.parameters, SelectingParameters):
            return self._by_reference(config, seconds)
        if isinstance(config.parameters, ScanParameters):
            return self._predicted(config, config.parameters)
        if not isinstance(config.parameters, LshParameters):
            return self._on_card(config)
        return self._sampled_on_gpu(config) if config.resident else self._answered(config, seconds)

    def _predicted(self, config: DecodeConfig, p: ScanParameters) -> dict[str, Any]:
        target, workload = self._target, self._workload
        machine = Machine(target.gpu, HostKernels(target.host.kernels))
        step, share = step_time(workload.shape, config, workload.context, machine), max(p.expected(workload.context))
        known = find(target.gpu, config.method, "predicted")
        return _estimate(step, step.total, step.total, config, known, share / workload.context)

    def _on_card(self, config: DecodeConfig) -> dict[str, Any]:
        """Dense, or streaming, of which nothing is sampled."""
        assert self._target.gpu is not None
        step = cost_model.gpu_side(self._workload.shape, config, self._workload.context, self._target.gpu)
        fraction = None if isinstance(config.parameters, DenseParameters) else 0.0
        return self._estimate(step, step.total, step.total, config, fraction)

    def _by_reference(self, config: DecodeConfig, seconds: float) -> dict[str, Any]:
        """The CPU takes the place of the card for all but weights and dense layers; nothing overlaps."""
        shape, gpu, execution = self._workload.shape, self._target.gpu, config.execution
        assert gpu is not None
        threads = min(execution.threads, self._threads)
        layer = self._timer.measure(config, threads, seconds=seconds)
        layers = layer_kinds(shape, config).sparse * self._host_ratio(threads, execution.threads, READ)
        rest = cost_model.gpu_side(shape, config, self._workload.context, gpu)
        step, fastest, slowest = (
            replace(rest, cpu_attend=layers * attend_s) for _, attend_s in _median_and_bounds(layer)
        )
        return {**self._estimate(step, fastest.total, slowest.total, config, layer.sampled_fraction), **_raw(layer)}

    def _sampled_on_gpu(self, config: DecodeConfig) -> dict[str, Any]:
        shape, gpu, p = self._workload.shape, self._target.gpu, config.parameters
        assert gpu is not None
        assert isinstance(p, LshParameters)
        step = gpu_sampling.step_time(shape, config, self._workload.context, gpu)
        return self._estimate(step, step.total, step.total, config, expected_fraction(p))

    def _answered(self, config: DecodeConfig, seconds: float) -> dict[str, Any]:
        shape, gpu, execution = self._workload.shape, self._target.gpu, config.execution
        assert gpu is not None
        largest = execution.model_copy(update={"batch_size": overlap.lane_sizes(execution)[-1]})
        threads = min(execution.threads, self._threads)
        pause_s = overlap.pause_seconds(shape, config, self._workload.context, gpu)
        layer = self._timer.measure(config.model_copy(update={"execution": largest}), threads, pause_s, seconds)
        ratio = self._host_ratio(threads, execution.threads)
        step, fastest, slowest = (
            overlap.step_time(shape, config, self._workload.context, gpu, ratio * retrieve_s, ratio * attend_s)
            for retrieve_s, attend_s in _median_and_bounds(layer)
        )
        return {**self._estimate(step, fastest.total, slowest.total, config, layer.sampled_fraction), **_raw(layer)}

    def _estimate(
        self, step: StepTime, fastest_s: float, slowest_s: float, config: DecodeConfig, share: float | None
    ) -> dict[str, Any]:
        return _estimate(step, fastest_s, slowest_s, config, find(self._target.gpu, config.method), share)

    def _host_ratio(self, threads_here: int, threads_there: int, rate: str = GATHER) -> float:
        """Time on the target's host over time here, by what both gather in 512-byte rows, or read."""
        if self._target.host.here:
            return 1.0
        if threads_here not in self._rates_here:
            machine = hardware.detect()
            buffer = bandwidth.buffer_size(machine.cpu.last_level_cache_bytes, machine.memory_limit_bytes)
            self._rates_here[threads_here] = bandwidth.host_rates(threads_here, buffer, 2.0)
        here, there = self._rates_here[threads_here], self._target.host.rate(threads_there)
        return getattr(here, rate).p50 / getattr(there, rate).p50


def _raw(layer: LayerTime) -> dict[str, dict[str, list[float]]]:
    return {"samples": {"layer_ms": [round(1e3 * seconds, 6) for seconds in layer.samples_s]}}


def _median_and_bounds(layer: LayerTime) -> list[tuple[float, float]]:
    """Both parts as measured, and scaled to the bounds of their sum."""
    total = layer.retrieve_s + layer.attend_s
    scales = (1.0, *(bound / total for bound in layer.total_ci95_s))
    return [(scale * layer.retrieve_s, scale * layer.attend_s) for scale in scales]


def _estimate(
    step: StepTime,
    fastest_s: float,
    slowest_s: float,
    config: DecodeConfig,
    known: KnownError | None,
    share: float | None,
) -> dict[str, Any]:
    """The bounds hold what was timed, and nine in ten of the steps that were back-tested."""
    batch = config.execution.batch_size
    if known:
        fastest_s, slowest_s = known.seconds(fastest_s)[0], known.seconds(slowest_s)[1]
    return {
        "tokens_per_s": batch / step.total,
        "tokens_per_s_low": batch / slowest_s,
        "tokens_per_s_high": batch / fastest_s,
        "throughput_kind": "estimated",
        "step_ms": step.total * 1e3,
        "sampled_fraction": share,
        **step.milliseconds(),
    }
