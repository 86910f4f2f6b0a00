"""The time of a decode step's parts on a card that is not here, from bytes, operations, launches and transfers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from truffle.bench.kinds import layer_kinds
from truffle.kernels.profiles import GpuProfile
from truffle.model.config import DecodeConfig, LshParameters, ModelShape, StreamingParameters

# Kernels that a layer launches inside a captured graph: norms, projections, RoPE, attention, SwiGLU; and those
# that sampling adds: hash, pack, wait, merge, and what appends to exact slots.
LAUNCHES_PER_LAYER, LAUNCHES_PER_SAMPLED_LAYER = 10, 5


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step for the whole batch, part by part, each as if by itself.

    Attributes:
        gpu_retrieve, gpu_sample: finding and attending sampled keys, where stores and tables are on the GPU.
        hidden: of all parts together, what passes while another part is under way (overlap.py).
    """

    weights: float = 0.0
    gpu_attend: float = 0.0
    launch: float = 0.0
    hash: float = 0.0
    link: float = 0.0
    cpu_retrieve: float = 0.0
    cpu_attend: float = 0.0
    gpu_retrieve: float = 0.0
    gpu_sample: float = 0.0
    hidden: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of the step."""
        return sum(asdict(self).values()) - 2 * self.hidden

    @staticmethod
    def added(steps: Iterable[StepTime]) -> StepTime:
        """Every part summed."""
        parts = [asdict(step) for step in steps]
        return StepTime(**{name: sum(part[name] for part in parts) for name in parts[0]})

    def milliseconds(self) -> dict[str, float]:
        """Parts as ``ms_<part>``."""
        return {f"ms_{name}": seconds * 1e3 for name, seconds in asdict(self).items()}


def gpu_bandwidth(gpu: GpuProfile) -> float:
    """Bytes a second that kernels attain on the card's memory."""
    return gpu.memory_bandwidth_bytes_per_s.value * gpu.memory_efficiency.value


def link_bandwidth(gpu: GpuProfile) -> float:
    """Bytes a second that pinned copies attain one way."""
    return gpu.link_bandwidth_bytes_per_s.value * gpu.link_efficiency.value


def weights_seconds(shape: ModelShape, batch: int, gpu: GpuProfile) -> float:
    """Reading every weight once, or multiplying by it for each request, whichever is longer."""
    read = shape.parameters if shape.tied_embeddings else shape.parameters - shape.vocabulary * shape.hidden
    return _products_seconds(read, batch, gpu)


def _products_seconds(weights: int, batch: int, gpu: GpuProfile) -> float:
    flops = gpu.bf16_flops_per_s.value * gpu.flops_efficiency.value
    return max(2 * weights / gpu_bandwidth(gpu), 2 * weights * batch / flops)


def kv_bytes_per_layer(shape: ModelShape, tokens: int) -> int:
    """Keys and values of one request and layer in bfloat16."""
    return 2 * tokens * shape.kv_heads * shape.head_dim * 2


def gpu_side(shape: ModelShape, config: DecodeConfig, context: int, gpu: GpuProfile) -> StepTime:
    """All of a step but what finds and attends keys outside sink and window, nothing hidden.

    Of a reference method, that is all of its layers' attention.
    """
    kinds, batch, p = layer_kinds(shape, config), config.execution.batch_size, config.parameters
    slots = kinds.dense * context
    if isinstance(p, StreamingParameters):
        slots += kinds.sparse * min(context, p.sink + p.window)
    exact = StepTime(
        weights=weights_seconds(shape, batch, gpu),
        gpu_attend=batch * kv_bytes_per_layer(shape, slots) / gpu_bandwidth(gpu),
        launch=shape.layers * LAUNCHES_PER_LAYER * gpu.launch_latency_s.value,
    )
    if not isinstance(p, LshParameters):
        return exact
    asked = _asked(shape, p, batch, gpu)
    return StepTime.added([exact, *[asked] * kinds.sparse])


def sampled_layer(shape: ModelShape, p: LshParameters, batch: int, gpu: GpuProfile) -> StepTime:
    """What `gpu_side` counts for one sampled layer."""
    weights = shape.parameters - shape.model_copy(update={"layers": shape.layers - 1}).parameters
    own = StepTime(
        weights=_products_seconds(weights, batch, gpu), launch=LAUNCHES_PER_LAYER * gpu.launch_latency_s.value
    )
    return StepTime.added([own, _asked(shape, p, batch, gpu)])


def _asked(shape: ModelShape, p: LshParameters, batch: int, gpu: GpuProfile) -> StepTime:
    """What a sampled layer has over a layer that attends to nothing: its exact slots, hashing, and the link."""
    tokens = p.sink + p.window + p.seal_tokens // 2
    return StepTime(
        gpu_attend=batch * kv_bytes_per_layer(shape, tokens) / gpu_bandwidth(gpu),
        launch=LAUNCHES_PER_SAMPLED_LAYER * gpu.launch_latency_s.value,
        hash=4 * shape.head_dim * p.L * p.K / gpu_bandwidth(gpu),
        link=_transfer_seconds(shape, p, batch, gpu),
    )


def _transfer_seconds(shape: ModelShape, p: LshParameters, batch: int, gpu: GpuProfile) -> float:
    """Queries and codes (margins, where those direct the probes) down, outputs and their lse up: two waits a layer."""
    rows = batch * shape.heads
    hashed = 4 * p.K * p.L if p.probing.kind == "directed" else 2 * p.L
    down, up = rows * (2 * shape.head_dim + hashed), rows * (4 * shape.head_dim + 4)
    return (down + up) / link_bandwidth(gpu) + 2 * gpu.link_latency_s.value
