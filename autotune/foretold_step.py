"""Points that the cost model rules out before anything is measured, its own known error allowed for."""

from __future__ import annotations

from truffle.autotune import known_error
from truffle.autotune.predict import Machine, step_time
from truffle.bench.workloads import Workload
from truffle.kernels.checks import ArgumentError
from truffle.model.config import DecodeConfig, LshParameters, ScanParameters


def foretold_too_slow(
    config: DecodeConfig,
    workload: Workload,
    machine: Machine,
    fastest_exact: float,
    max_latency_ms: float | None = None,
) -> str | None:
    """Why a point is neither worth `fastest_exact` tokens a second nor within the latency limit, or None.

    A step is taken to be as much faster than predicted as nine in ten of the back-tested ones were at most. Nothing is
    said of methods that sample nothing or have no kernels, by a calibration without their times, or where no step was
    ever back-tested.
    """
    if not isinstance(config.parameters, LshParameters | ScanParameters):
        return None
    known = known_error.find(machine.gpu, config.method, "predicted")
    step_s = _predicted(config, workload, machine)
    if known is None or step_s is None:
        return None
    least_s = known.seconds(step_s)[0]
    told = f"the cost model expects {step_s * 1e3:.3g} ms a step, at the least {least_s * 1e3:.3g}"
    if max_latency_ms is not None and least_s * 1e3 > max_latency_ms:
        return f"{told}; the limit is {max_latency_ms:g} ms"
    rate = config.execution.batch_size / least_s
    if rate < fastest_exact:
        return f"{told}, which are {rate:.2g} tokens/s; exact attention does {fastest_exact:.2g}"
    return None


def _predicted(config: DecodeConfig, workload: Workload, machine: Machine) -> float | None:
    try:
        return step_time(workload.shape, config, workload.context, machine).total
    except ArgumentError:
        return None
