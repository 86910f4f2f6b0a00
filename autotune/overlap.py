"""What of a step's parts hides behind others: the GPU's and the host's work as model/pipeline.py overlaps them.

For a lane of the batch a sampled layer is `rest` on the GPU (weights, launches, hashing, the link), and then the
GPU's exact attention, `attend`, beside the host's `answer`. A lane by itself takes

    rest + max(answer, attend)

a layer. Two lanes share one GPU and one host: while the host answers one, the GPU works for the other. A layer then
takes no less than the host has to do for both, than the GPU has to do for both, or than either lane by itself:

    max(sum of answer, sum of (rest + attend), largest rest + max(answer, attend))

With one lane that is the first formula. Each lane reads the weights for itself, so that the sum of `rest` grows with
lanes. Where all layers of a step are alike nothing else is waited for; the first layer's start and the last one's
end, half a layer, are left out, and dense layers and the head hide nothing.

Of steps that were measured with one lane and two (scaling_batch.json and scaling_batch_two_lanes.json under
reports/results/h200), given what their answers took, this finds 89% to 104%.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from truffle.autotune import cost_model
from truffle.autotune.cost_model import StepTime
from truffle.bench.kinds import layer_kinds
from truffle.kernels.profiles import GpuProfile
from truffle.model.config import DecodeConfig, Execution, ModelShape


@dataclass(frozen=True)
class LaneLayer:
    """Seconds of one sampled layer for one lane."""

    rest: float
    attend: float
    answer: float

    @property
    def alone(self) -> float:
        """From one answer to the next where nothing else has to be done."""
        return self.rest + max(self.answer, self.attend)


def layer_seconds(lanes: Sequence[LaneLayer]) -> float:
    """Seconds that all lanes take for a sampled layer."""
    host = sum(lane.answer for lane in lanes)
    device = sum(lane.rest + lane.attend for lane in lanes)
    longest = max(lane.alone for lane in lanes)
    return max(host, device, longest)


def lane_sizes(execution: Execution) -> list[int]:
    """Requests of each lane, the last being the largest."""
    batch, parts = execution.batch_size, execution.micro_batches
    bounds = [batch * part // parts for part in range(parts + 1)]
    return [end - start for start, end in itertools.pairwise(bounds) if end > start]


def pause_seconds(shape: ModelShape, config: DecodeConfig, context: int, gpu: GpuProfile) -> float:
    """How long the host has nothing to answer between two layers.

    None with two lanes: either there is always one to answer, or answers hide behind the GPU's work.
    """
    alone = len(lane_sizes(config.execution)) == 1
    return _rest(cost_model.sampled_layer(shape, config, context, gpu)) if alone else 0.0


def step_time(
    shape: ModelShape, config: DecodeConfig, context: int, gpu: GpuProfile, retrieve_s: float, attend_s: float
) -> StepTime:
    """A step under `lsh` or `scan` whose host takes `retrieve_s` and `attend_s` to answer the largest lane in one
    layer.

    A smaller lane takes as much less as it has fewer requests.
    """
    sizes, layers = lane_sizes(config.execution), layer_kinds(shape, config).sparse
    shares = [size / sizes[-1] for size in sizes]
    device = [cost_model.gpu_side(shape, _lane(config, size), context, gpu) for size in sizes]
    host = StepTime(cpu_retrieve=layers * sum(shares) * retrieve_s, cpu_attend=layers * sum(shares) * attend_s)
    lanes = [
        _lane_layer(cost_model.sampled_layer(shape, _lane(config, size), context, gpu), share * (retrieve_s + attend_s))
        for size, share in zip(sizes, shares, strict=True)
    ]
    apart = sum(lane.rest + lane.attend + lane.answer for lane in lanes)
    return replace(StepTime.added([*device, host]), hidden=layers * (apart - layer_seconds(lanes)))


def _lane(config: DecodeConfig, size: int) -> DecodeConfig:
    return config.model_copy(update={"execution": config.execution.model_copy(update={"batch_size": size})})


def _lane_layer(device: StepTime, answer: float) -> LaneLayer:
    return LaneLayer(_rest(device), device.gpu_attend, answer)


def _rest(device: StepTime) -> float:
    return device.total - device.gpu_attend
