"""The time of a decode step from a card's profile and a host's calibration alone: nothing is run.

Whole steps that were measured tell how good that is (backtest.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from truffle.autotune import cost_model, gpu_sampling, overlap
from truffle.autotune.cost_model import StepTime
from truffle.autotune.host_model import HostKernels
from truffle.bench import host_work
from truffle.bench.kinds import layer_kinds
from truffle.kernels.checks import expect
from truffle.kernels.profiles import GpuProfile
from truffle.kernels.waiting import SPIN_US
from truffle.model.config import (
    DecodeConfig,
    DenseParameters,
    LshParameters,
    ModelShape,
    ScanParameters,
    StreamingParameters,
)


@dataclass(frozen=True)
class Machine:
    """What a step runs on.

    Attributes:
        gpu: None where the CPU does everything.
        host: None where nothing is asked of it.
    """

    gpu: GpuProfile | None
    host: HostKernels | None


def step_time(
    shape: ModelShape, config: DecodeConfig, context: int, machine: Machine, deviation: float | None = None
) -> StepTime:
    """Seconds of a step, part by part.

    Args:
        deviation: of the cosines of queries and keys, which says how many keys tables sample; None as the paper's.

    Raises:
        ArgumentError: the method has no kernels whose times are known, or the machine's host was not calibrated.
    """
    p = config.parameters
    kernels = not config.selects and isinstance(
        p, DenseParameters | StreamingParameters | LshParameters | ScanParameters
    )
    expect(kernels, "method", "one with kernels: dense, streaming, lsh or scan", config.method)
    if machine.gpu is None:
        return _on_cpu(shape, config, context, _calibrated(machine), deviation)
    if isinstance(p, DenseParameters | StreamingParameters):
        return cost_model.gpu_side(shape, config, context, machine.gpu)
    if config.resident or config.linked:
        return gpu_sampling.step_time(shape, config, context, machine.gpu, deviation)
    pause = overlap.pause_seconds(shape, config, context, machine.gpu)
    lane = config.execution.model_copy(
        update={
            "batch_size": overlap.lane_sizes(config.execution)[-1],
            "wait_policy": config.execution.wait_policy if pause * 1e6 < SPIN_US["spin"] else "park",
        }
    )
    largest = config.model_copy(update={"execution": lane})
    answered = answer_seconds(shape, largest, context, _calibrated(machine), config.scans_beside("cuda"), deviation)
    return overlap.step_time(shape, config, context, machine.gpu, *answered)


def answer_seconds(
    shape: ModelShape,
    config: DecodeConfig,
    context: int,
    host: HostKernels,
    scanned: bool = False,
    deviation: float | None = None,
) -> tuple[float, float]:
    """Seconds that the host takes to find and to attend keys in one layer for the whole batch.

    Args:
        scanned: whether the card has found them already.
    """
    p, how = config.parameters, config.execution
    of = _asker(host, config)
    if isinstance(p, ScanParameters):
        attended = of("attend_lists", host_work.attend_lists(shape, p, context, how.batch_size, how.store_format))
        return 0.0 if scanned else of("scan_sample", host_work.scan(shape, p, context, how.batch_size)), attended
    assert isinstance(p, LshParameters)
    finds = host_work.retrieve(shape, p, context, how.batch_size, deviation)
    attends = host_work.attend(shape, p, context, how.batch_size, how.store_format, deviation)
    directed = p.probing.kind == "directed"
    before = of("direct_probes", host_work.direct(shape, p, how.batch_size)) if directed else 0.0
    if config.fused:
        return before, of("retrieve_attend", finds | attends)
    return before + of("retrieve", finds), of("sparse_attend", attends)


def _on_cpu(
    shape: ModelShape, config: DecodeConfig, context: int, host: HostKernels, deviation: float | None
) -> StepTime:
    """One thing after another."""
    kinds, p, batch = layer_kinds(shape, config), config.parameters, config.execution.batch_size
    of = _asker(host, config)
    layer = shape.parameters - shape.model_copy(update={"layers": shape.layers - 1}).parameters
    head = shape.vocabulary * shape.hidden
    weights = shape.layers * of("linear", host_work.linear(layer, batch)) + of("linear", host_work.linear(head, batch))

    def attended(tokens: float) -> float:
        return of("dense_attend", host_work.dense(shape, tokens, batch))

    step = StepTime(
        weights=weights,
        launch=kinds.dense * of("layer_dense", {}),
        cpu_attend=kinds.dense * attended(context),
    )
    if isinstance(p, DenseParameters):
        return step
    if isinstance(p, StreamingParameters):
        sparse = StepTime(launch=of("layer_dense", {}), cpu_attend=attended(min(context, p.sink + p.window)))
        return StepTime.added([step, *[sparse] * kinds.sparse])
    assert isinstance(p, LshParameters | ScanParameters)
    finds, attends = answer_seconds(shape, config, context, host, deviation=deviation)
    sparse = StepTime(launch=of(f"layer_{config.method}", {}), cpu_retrieve=finds, cpu_attend=attends)
    return StepTime.added([step, *[sparse] * kinds.sparse])


def _asker(host: HostKernels, config: DecodeConfig) -> Callable[[str, host_work.Work], float]:
    how = config.execution

    def seconds(op: str, work: host_work.Work) -> float:
        stored = how.store_format if op in ("sparse_attend", "retrieve_attend") else "bfloat16"
        return host.seconds(op, work, how.threads, how.isa, stored, how.wait_policy)

    return seconds


def _calibrated(machine: Machine) -> HostKernels:
    expect(machine.host is not None, "host", "a calibrated one", None)
    assert machine.host is not None
    return machine.host
