"""The exact ways to decode the workload, and the fastest that fits: what sampling has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from truffle.autotune import cost_model, known_error
from truffle.autotune.cost_model import StepTime
from truffle.autotune.target import Target
from truffle.bench.workloads import Workload

MOST_BATCH = 64
ON_GPU, ON_CPU = "all on the GPU", "all on the CPU"
FITS = "everything fits on the GPU"


@dataclass(frozen=True)
class Baseline:
    """One exact way. Estimated times assume perfect overlap, in the baseline's favour; measured ones have no parts."""

    name: str
    fits: bool
    reason: str | None
    batch_size: int | None = None
    tokens_per_s: float | None = None
    step: StepTime | None = None
    gpu_memory_bytes: int | None = None
    host_memory_bytes: int | None = None
    kind: str = "estimated"
    step_s: float | None = None


def exact_baselines(workload: Workload, target: Target) -> list[Baseline]:
    """Each way at the batch size that serves most tokens a second."""
    if target.gpu is None:
        return [_best(ON_CPU, workload, target, _on_cpu)]
    ways = {
        ON_GPU: _on_gpu,
        "what does not fit streamed over the link": _streamed,
        "what does not fit attended on the CPU": _shared_with_cpu,
        "all keys and values on the CPU": _attended_on_cpu,
    }
    return [_best(name, workload, target, way) for name, way in ways.items()]


def fastest(baselines: list[Baseline]) -> Baseline | None:
    """The fastest that fits, or None."""
    fitting = [baseline for baseline in baselines if baseline.fits]
    return max(fitting, key=lambda baseline: baseline.tokens_per_s or 0.0, default=None)


def known_interval(baseline: Baseline, target: Target) -> tuple[float, float] | None:
    """Tokens a second that nine in ten back-tested steps bound; None where the way was measured, or none like it was.

    Of exact ways only that of a card which holds everything has been back-tested.
    """
    known = known_error.find(target.gpu, "dense") if baseline.name == ON_GPU else None
    if known is None or baseline.kind != "estimated" or not (baseline.step_s and baseline.batch_size):
        return None
    fastest_s, slowest_s = known.seconds(baseline.step_s)
    return baseline.batch_size / slowest_s, baseline.batch_size / fastest_s


def _best(name: str, workload: Workload, target: Target, way) -> Baseline:
    found, first_reason = [], None
    for batch in range(1, MOST_BATCH + 1):
        result = way(workload, target, batch)
        if isinstance(result, str):
            first_reason = first_reason or result
            if result == FITS:  # a larger batch may not
                continue
            break
        step, gpu_bytes, host_bytes = result
        found.append(
            Baseline(name, True, None, batch, batch / step.total, step, gpu_bytes, host_bytes, step_s=step.total)
        )
    if not found:
        return Baseline(name, False, first_reason)
    return max(found, key=lambda baseline: baseline.tokens_per_s or 0.0)


def _split(workload: Workload, target: Target, batch: int) -> tuple[int, int, int]:
    """Bytes of weights, of keys and values on the GPU, and of those that do not fit there."""
    weights = 2 * workload.shape.parameters
    kv = batch * workload.context * workload.shape.kv_bytes_per_token()
    resident = max(0, min(kv, target.usable_gpu_bytes - weights))
    return weights, resident, kv - resident


def _gpu_step(workload: Workload, target: Target, batch: int, kv_bytes: int) -> StepTime:
    gpu, shape = target.gpu, workload.shape
    assert gpu is not None
    kernels = shape.layers * cost_model.attend_seconds(shape, batch, 0, gpu)
    return StepTime(
        weights=cost_model.weights_seconds(shape, batch, gpu),
        gpu_attend=kernels + kv_bytes / cost_model.gpu_bandwidth(gpu),
        launch=cost_model.block_latency(shape, gpu),
    )


def _too_large(name: str, needed: int, available: int) -> str:
    return f"needs {needed / 1e9:.1f} GB of {name}'s usable {available / 1e9:.1f} GB"


def _on_gpu(workload: Workload, target: Target, batch: int):
    weights, resident, rest = _split(workload, target, batch)
    if rest or weights > target.usable_gpu_bytes:
        return _too_large("the GPU", weights + resident + rest, target.usable_gpu_bytes)
    return _gpu_step(workload, target, batch, resident), weights + resident, 0


def _streamed(workload: Workload, target: Target, batch: int):
    problem = _offload_problem(workload, target, batch)
    if problem:
        return problem
    weights, resident, rest = _split(workload, target, batch)
    assert target.gpu is not None
    step = _gpu_step(workload, target, batch, resident + rest)
    hidden = max(0.0, rest / cost_model.link_bandwidth(target.gpu) - step.total)
    return StepTime(step.weights, step.gpu_attend, step.launch, link=hidden), weights + resident, rest


def _shared_with_cpu(workload: Workload, target: Target, batch: int):
    problem = _offload_problem(workload, target, batch)
    if problem:
        return problem
    weights, resident, rest = _split(workload, target, batch)
    return _with_cpu(workload, target, batch, weights, resident, rest)


def _attended_on_cpu(workload: Workload, target: Target, batch: int):
    weights, resident, rest = _split(workload, target, batch)
    if weights > target.usable_gpu_bytes:
        return _too_large("the GPU", weights, target.usable_gpu_bytes)
    if resident + rest > target.host.usable_memory_bytes:
        return _too_large("the host", resident + rest, target.host.usable_memory_bytes)
    return _with_cpu(workload, target, batch, weights, 0, resident + rest)


def _with_cpu(workload: Workload, target: Target, batch: int, weights: int, resident: int, rest: int):
    """The CPU attends `rest` at stream bandwidth while the GPU attends `resident`; a group shares its reads."""
    gpu = target.gpu
    assert gpu is not None
    step = _gpu_step(workload, target, batch, resident)
    cpu = rest / _best_read(target)
    waits = 2 * workload.shape.layers * gpu.link_latency_s.value
    exposed = max(0.0, cpu - step.gpu_attend)
    return (
        StepTime(step.weights, step.gpu_attend, step.launch, link=waits, cpu_attend=exposed),
        weights + resident,
        rest,
    )


def _offload_problem(workload: Workload, target: Target, batch: int) -> str | None:
    weights, _, rest = _split(workload, target, batch)
    if weights > target.usable_gpu_bytes:
        return _too_large("the GPU", weights, target.usable_gpu_bytes)
    if rest == 0:
        return FITS
    if rest > target.host.usable_memory_bytes:
        return _too_large("the host", rest, target.host.usable_memory_bytes)
    return None


def _on_cpu(workload: Workload, target: Target, batch: int):
    weights = 2 * workload.shape.parameters
    kv = batch * workload.context * workload.shape.kv_bytes_per_token()
    if weights + kv > target.host.usable_memory_bytes:
        return _too_large("the host", weights + kv, target.host.usable_memory_bytes)
    read = _best_read(target)
    return StepTime(weights=weights / read, cpu_attend=kv / read), 0, weights + kv


def _best_read(target: Target) -> float:
    return max(rates.read_bytes_per_s.p50 for rates in target.host.rates)
