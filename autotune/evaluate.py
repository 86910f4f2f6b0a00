"""Measures a point: accuracy on the model at hand, throughput of the workload on the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from truffle.autotune import cost_model
from truffle.autotune.baselines import Baseline
from truffle.autotune.host_timing import SECONDS, HostTimer, LayerTime
from truffle.autotune.target import Target
from truffle.bench import accuracy, bandwidth, decode, whole_step
from truffle.bench.accuracy import Setting
from truffle.bench.dense_run import DenseRun
from truffle.bench.kinds import layer_kinds
from truffle.bench.workloads import Workload
from truffle.kernels import hardware
from truffle.model.config import DecodeConfig, DenseParameters, Execution
from truffle.model.weights import LoadedModel

ACCURACY_FIGURES = ("kl", "kl_low", "kl_high", "top1", "perplexity_ratio", "output_error", "density", "rows")
DEVICE_STEPS = 20


class AccuracyMeter:
    """Accuracy by parameters and store format: it depends on nothing else, so each pair is measured once."""

    def __init__(self, model_id: str, setting: Setting, threads: int, say: Callable[[str], None]) -> None:
        self._model_id, self._setting, self._threads, self._say = model_id, setting, threads, say
        self._model: LoadedModel | None = None
        self._runs: list[DenseRun] = []
        self.known: dict[str, dict[str, float | None]] = {}

    def measure(self, config: DecodeConfig) -> dict[str, float | None]:
        """KL, agreement, output error, density and rows of the config's parameters and store format."""
        key = _accuracy_key(config)
        if key not in self.known:
            assert self._model is not None
            here = config.execution.model_copy(update={"threads": self._threads, "batch_size": 1})
            config = config.model_copy(update={"execution": here})
            torch.set_num_threads(self._threads)
            numbered = enumerate(self._runs)
            steps = [r for sample, run in numbered for r in accuracy.measure(self._model, run, config, sample)]
            summary = accuracy.summarise(steps)
            self.known[key] = {name: summary[name] for name in ACCURACY_FIGURES}
        return self.known[key]

    def remember(self, config: DecodeConfig, figures: dict[str, Any]) -> None:
        """Take figures that were measured before."""
        known = {name: figures[name] for name in ACCURACY_FIGURES}
        self.known.setdefault(_accuracy_key(config), known)

    def prepare(self) -> None:
        """Load the model and make the exact runs.

        Raises:
            ValueError: the model cannot be loaded, or not at that context, or the text is too short.
        """
        from truffle.model.weights import load

        model = load(self._model_id)
        self._say(f"exact runs on {self._model_id}: {self._setting.samples} x {self._setting.context} tokens")
        torch.set_num_threads(self._threads)
        self._runs = accuracy.dense_runs(model, self._setting, self._threads)
        self._model = model


def _accuracy_key(config: DecodeConfig) -> str:
    return f"{config.parameters.model_dump_json()} {config.execution.store_format}"


class ThroughputMeter:
    """Throughput of the workload on the target.

    Where the target's card is here, whole steps are run on it; where there is none, a few layers of each kind are run
    on the machine itself and scaled. Otherwise the CPU's part is measured here on one layer, carried over to another
    host by the ratio of gather rates where one is given, and the rest of the step is estimated from the card's profile.
    """

    def __init__(self, workload: Workload, target: Target, threads: int, seed: int) -> None:
        self._workload, self._target, self._threads = workload, target, threads
        self._timer = HostTimer(workload, threads, seed)
        self._gather_here: dict[int, float] = {}

    @property
    def runs_whole_layers(self) -> bool:
        """Whether the target is this machine."""
        return self._target.is_here

    def measure(self, config: DecodeConfig, seconds: float = SECONDS) -> dict[str, Any]:
        """Figures of a record: tokens a second with interval, kind, and the parts of a step."""
        if self.runs_whole_layers:
            return self._run_layers(config)
        threads = min(config.execution.threads, self._threads)
        layer = self._timer.measure(config, threads, seconds)
        gpu = self._target.gpu
        assert gpu is not None
        ratio = self._host_ratio(threads, config.execution.threads)
        kinds = layer_kinds(self._workload.shape, config)
        rest = cost_model.gpu_side(self._workload.shape, config, self._workload.context, gpu)
        return _estimate(rest, layer, kinds.sparse * ratio, config.execution.batch_size)

    def _host_ratio(self, threads_here: int, threads_there: int) -> float:
        """Time on the target's host over time here, by what both gather in 512-byte rows."""
        if self._target.host.here:
            return 1.0
        if threads_here not in self._gather_here:
            here = hardware.detect()
            buffer = bandwidth.buffer_size(here.cpu.last_level_cache_bytes, here.memory_limit_bytes)
            self._gather_here[threads_here] = bandwidth.host_rates(threads_here, buffer, 2.0).gather_512_bytes_per_s.p50
        return self._gather_here[threads_here] / self._target.host.rate(threads_there).gather_512_bytes_per_s.p50

    def measured_exact(self, way: Baseline) -> Baseline:
        """An exact way that needs no offloading, run on this machine at batches up to its largest."""
        assert way.batch_size is not None
        batches = [batch for batch in (1 << power for power in range(10)) if batch < way.batch_size] + [way.batch_size]
        best, figures = way, {}
        for batch in batches:
            execution = Execution(threads=self._threads, batch_size=batch)
            figures = self._run_layers(DecodeConfig(parameters=DenseParameters(), execution=execution))
            if best.kind == "measured" and figures["tokens_per_s"] <= (best.tokens_per_s or 0.0):
                break
            rate = figures["tokens_per_s"]
            best = replace(way, batch_size=batch, tokens_per_s=rate, step=None, step_s=batch / rate, kind="measured")
        return best

    def _run_layers(self, config: DecodeConfig) -> dict[str, Any]:
        torch.set_num_threads(config.execution.threads)
        if self._target.gpu:
            timed, _ = whole_step.time_steps(self._workload, config, DEVICE_STEPS, "cuda", torch.bfloat16)
        else:
            timed = decode.time_workload(self._workload, config, DEVICE_STEPS, torch.bfloat16)
        return {
            "tokens_per_s": timed["tokens_per_s"],
            "tokens_per_s_low": timed["tokens_per_s_low"],
            "tokens_per_s_high": timed["tokens_per_s_high"],
            "throughput_kind": "measured",
            "step_ms": timed["median_us"] / 1e3,
            "sampled_fraction": timed["density"],
        }


def _estimate(rest: cost_model.StepTime, layer: LayerTime, layers: float, batch: int) -> dict[str, Any]:
    step = cost_model.StepTime(
        weights=rest.weights, gpu_attend=rest.gpu_attend, launch=rest.launch, hash=rest.hash, link=rest.link,
        cpu_retrieve=layers * layer.retrieve_s, cpu_attend=layers * layer.attend_s,
    )  # fmt: skip
    fastest, slowest = (rest.total + layers * seconds for seconds in layer.total_ci95_s)
    return {
        "tokens_per_s": batch / step.total,
        "tokens_per_s_low": batch / slowest,
        "tokens_per_s_high": batch / fastest,
        "throughput_kind": "estimated",
        "step_ms": step.total * 1e3,
        "sampled_fraction": layer.sampled_fraction,
        **step.milliseconds(),
    }
