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
from truffle.autotune.memory import stored_row_bytes
from truffle.bench.calibration import expected_fraction
from truffle.bench.kinds import layer_kinds
from truffle.kernels.profiles import GpuProfile
from truffle.kernels.store import SEGMENT_TOKENS
from truffle.model.config import DecodeConfig, LshParameters, ModelShape

ENTRY_BYTES = 2 + 2 * 4
LAUNCHES_PER_REQUEST = 1  # attention; retrieval takes one a segment
LAUNCHES_PER_STEP_AND_LAYER = 3  # counters and counts zeroed, parts of a sample merged


def step_time(shape: ModelShape, config: DecodeConfig, context: int, gpu: GpuProfile) -> StepTime:
    """A step under `lsh` that samples on the GPU."""
    layers, bandwidth = layer_kinds(shape, config).sparse, cost_model.gpu_bandwidth(gpu)
    walked, gathered = sampling_bytes(shape, config, context)
    exact = cost_model.gpu_side(shape, config, context, gpu)
    segments = -(-context // SEGMENT_TOKENS)
    launches = config.execution.batch_size * (segments + LAUNCHES_PER_REQUEST) + LAUNCHES_PER_STEP_AND_LAYER
    return replace(
        exact,
        link=0.0,
        launch=exact.launch + layers * launches * gpu.kernel_latency_s.value,
        gpu_retrieve=layers * walked / bandwidth,
        gpu_sample=layers * gathered / bandwidth,
    )


def sampling_bytes(shape: ModelShape, config: DecodeConfig, context: int) -> tuple[float, float]:
    """Bytes that retrieval and attention of one layer move for the whole batch, as expected."""
    p, heads = config.parameters, config.execution.batch_size * shape.heads
    assert isinstance(p, LshParameters)
    entries = p.L * context * expected_fraction(p.model_copy(update={"L": 1, "min_hits": 1}))
    counters = context * (1 if p.L < 256 else 2)
    rows = context * expected_fraction(p)
    return heads * (entries * ENTRY_BYTES + 2 * counters), heads * rows * stored_row_bytes(shape, config)
