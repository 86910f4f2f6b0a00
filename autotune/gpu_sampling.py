"""Sampling on the GPU, where stores and tables fit there: what a step then takes, estimated from bytes.

No kernel is timed: where the card is here, whole steps are. What the CPU would have done is instead, in each layer:

    retrieve        a query head walks the expected entries of its buckets, each an id of 2 bytes and a counter's word
                    of 4 read and written; its counters, a byte a key (two from 256 tables on), are zeroed before and
                    read as they are counted
    sparse_attend   the rows expected to be sampled, each query head its own

at the bandwidth that the card attains on long copies, which scattered rows and atomics do not quite: the estimate is in
this choice's favour. Nothing crosses the link, and nothing is hidden.
"""

from __future__ import annotations

from dataclasses import replace

from truffle.autotune import cost_model
from truffle.autotune.cost_model import StepTime
from truffle.bench.host_work import attend, attend_lists, retrieve
from truffle.bench.kinds import layer_kinds
from truffle.kernels.profiles import GpuProfile
from truffle.kernels.store import SEGMENT_TOKENS
from truffle.model.config import DecodeConfig, LshParameters, ModelShape, ScanParameters

ENTRY_BYTES = 2 + 2 * 4
LAUNCHES_PER_REQUEST = 1  # attention; retrieval takes one a segment
LAUNCHES_PER_STEP_AND_LAYER = 3  # counters and counts zeroed, parts of a sample merged


def step_time(
    shape: ModelShape, config: DecodeConfig, context: int, gpu: GpuProfile, deviation: float | None = None
) -> StepTime:
    """A step under `lsh` or `scan` that samples on the GPU, which reads rows there or over the link."""
    layers, bandwidth = layer_kinds(shape, config).sparse, cost_model.gpu_bandwidth(gpu)
    exact = cost_model.gpu_side(shape, config, context, gpu)
    if isinstance(config.parameters, ScanParameters):
        launches = config.execution.batch_size * (LAUNCHES_PER_REQUEST + config.linked) + 1  # rows packed; parts merged
        found = cost_model.scan_seconds(shape, config, context, gpu)
        gathered = attend_lists(
            shape, config.parameters, context, config.execution.batch_size, config.execution.store_format
        )["bytes"]
    else:
        walked, gathered = sampling_bytes(shape, config, context, deviation)
        launches = config.execution.batch_size * (-(-context // SEGMENT_TOKENS) + LAUNCHES_PER_REQUEST)
        launches, found = launches + LAUNCHES_PER_STEP_AND_LAYER, walked / bandwidth
    return replace(
        exact,
        launch=exact.launch + layers * launches * gpu.kernel_latency_s.value,
        link=layers * gathered / cost_model.link_bandwidth(gpu) if config.linked else 0.0,
        gpu_retrieve=layers * found,
        gpu_sample=0.0 if config.linked else layers * gathered / bandwidth,
    )


def sampling_bytes(
    shape: ModelShape, config: DecodeConfig, context: int, deviation: float | None = None
) -> tuple[float, float]:
    """Bytes that retrieval and attention of one layer move for the whole batch, as expected."""
    p, how = config.parameters, config.execution
    assert isinstance(p, LshParameters)
    finds = retrieve(shape, p, context, how.batch_size, deviation)
    swept = finds["counters"] + 2 * finds["wide_counters"]
    gathered = attend(shape, p, context, how.batch_size, how.store_format, deviation)["bytes"]
    return finds["entries"] * ENTRY_BYTES + 2 * swept, gathered
