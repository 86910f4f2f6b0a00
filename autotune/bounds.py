"""Points that are slower than exact attention by what they gather alone, known before anything is measured."""

from __future__ import annotations

from truffle.autotune.cost_model import gpu_bandwidth
from truffle.autotune.memory import stored_row_bytes
from truffle.autotune.target import Target
from truffle.bench.calibration import expected_fraction
from truffle.bench.kinds import layer_kinds
from truffle.bench.workloads import Workload
from truffle.model.config import DecodeConfig, LshParameters


def too_slow(config: DecodeConfig, workload: Workload, target: Target, fastest_exact: float) -> str | None:
    """Why a point cannot reach `fastest_exact` tokens a second, or None.

    A bound: the rows expected to be sampled, read once a group at the rate that the host gathers, or the card reads,
    and nothing else.
    """
    p, shape, batch = config.parameters, workload.shape, config.execution.batch_size
    assert isinstance(p, LshParameters)
    fraction = expected_fraction(p)
    keys = batch * layer_kinds(shape, config).sparse * shape.kv_heads * fraction * workload.context
    bound = batch * _rate(config, target) / (keys * stored_row_bytes(shape, config))
    if bound >= fastest_exact:
        return None
    return (
        f"would sample {fraction:.1%}: at most {bound:.2g} tokens/s by gathering alone; "
        f"exact attention does {fastest_exact:.2g}"
    )


def _rate(config: DecodeConfig, target: Target) -> float:
    if config.resident:
        assert target.gpu is not None
        return gpu_bandwidth(target.gpu)
    return target.host.rate(config.execution.threads).gather_512_bytes_per_s.p80
