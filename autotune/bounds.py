"""Points that are slower than exact attention by what they read alone, known before anything is measured."""

from __future__ import annotations

from truffle.autotune.cost_model import gpu_bandwidth, kv_bytes_per_layer
from truffle.autotune.memory import stored_row_bytes
from truffle.autotune.target import Target
from truffle.bench.calibration import expected_fraction
from truffle.bench.kinds import layer_kinds
from truffle.bench.workloads import Workload
from truffle.model.config import DecodeConfig, LshParameters, ScanParameters, SelectingParameters


def too_slow(config: DecodeConfig, workload: Workload, target: Target, fastest_exact: float) -> str | None:
    """Why a point cannot reach `fastest_exact` tokens a second, or None.

    A bound: the rows expected to be sampled, read once a group at the rate that the host gathers, or the card reads,
    and nothing else. A reference method reads all keys and values, whatever it chooses of them. Of dense and streaming
    nothing is said beforehand.
    """
    p = config.parameters
    if isinstance(p, LshParameters | ScanParameters):
        fraction = _sampled_fraction(p, workload.context)
        bound, does, by = _by_gathering(config, workload, target, fraction), f"sample {fraction:.1%}", "gathering"
    elif isinstance(p, SelectingParameters):
        bound, does, by = _by_reading(config, workload, target), "read every key and value", "reading"
    else:
        return None
    if bound >= fastest_exact:
        return None
    return f"would {does}: at most {bound:.2g} tokens/s by {by} alone; exact attention does {fastest_exact:.2g}"


def _sampled_fraction(p: LshParameters | ScanParameters, context: int) -> float:
    if isinstance(p, LshParameters):
        return expected_fraction(p)
    return max(p.expected(context)) / context  # of proposal and floor, which may draw the same keys


def _by_gathering(config: DecodeConfig, workload: Workload, target: Target, fraction: float) -> float:
    shape = workload.shape
    keys = layer_kinds(shape, config).sparse * shape.kv_heads * fraction * workload.context
    return _gather_rate(config, target) / (keys * stored_row_bytes(shape, config))


def _gather_rate(config: DecodeConfig, target: Target) -> float:
    if config.resident:
        assert target.gpu is not None
        return gpu_bandwidth(target.gpu)
    return target.host.rate(config.execution.threads).gather_512_bytes_per_s.p80


def _by_reading(config: DecodeConfig, workload: Workload, target: Target) -> float:
    """On the card where it is here, or else on the host that is timed in its place."""
    shape = workload.shape
    keys = layer_kinds(shape, config).sparse * kv_bytes_per_layer(shape, workload.context)
    if target.gpu is not None and target.is_here:
        return gpu_bandwidth(target.gpu) / keys
    return target.host.rate(config.execution.threads).read_bytes_per_s.p80 / keys
