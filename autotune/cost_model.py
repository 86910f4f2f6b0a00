"""The time of a decode step's parts on a card, from bytes, operations, kernels launched and what crosses the link.

Every kernel of a captured layer that is no product has next to nothing to do for a few requests: it takes its latency
and the time of its bytes, one after the other. Of products only the bytes of the weights count, or their operations.
Questions and answers cross the link as kernels write and read them, so that no copy is waited for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from truffle.bench import host_work
from truffle.bench.kinds import layer_kinds
from truffle.kernels.profiles import GpuProfile
from truffle.kernels.scanning import room_for
from truffle.model.config import DecodeConfig, LshParameters, ModelShape, ScanParameters, StreamingParameters

BLOCK_KERNELS = 5  # beside the products: two norms, rotation, a cast, SwiGLU
ATTEND_KERNELS = 6  # a slot looked up, key and value put there, counted; attention in parts, and their merge
ASK_KERNELS = 4  # a question made and told; an answer waited for and merged
SCAN_KERNELS = 9  # a query turned and quantised; estimate, proposal, candidates, two draws; the sample sent


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
    read = gpu.memory_bandwidth_bytes_per_s.value * gpu.product_efficiency.value
    return max(2 * weights / read, 2 * weights * batch / flops)


def kv_bytes_per_layer(shape: ModelShape, tokens: int) -> int:
    """Keys and values of one request and layer in bfloat16."""
    return 2 * tokens * shape.kv_heads * shape.head_dim * 2


def attend_seconds(shape: ModelShape, batch: int, tokens: float, gpu: GpuProfile) -> float:
    """A layer's exact attention to so many tokens of each request, and the token that is added."""
    return batch * kv_bytes_per_layer(shape, 1) * tokens / gpu_bandwidth(gpu) + _latency(ATTEND_KERNELS, gpu)


def block_latency(shape: ModelShape, gpu: GpuProfile) -> float:
    """What all layers' small kernels take, but for attention."""
    return shape.layers * _latency(BLOCK_KERNELS, gpu)


def gpu_side(shape: ModelShape, config: DecodeConfig, context: int, gpu: GpuProfile) -> StepTime:
    """All of a step but what the host does, and what is sampled where stores are on the card; nothing hidden.

    Of a reference method, that is all but its sampled layers' attention.
    """
    kinds, batch, p = layer_kinds(shape, config), config.execution.batch_size, config.parameters
    attended = kinds.dense * attend_seconds(shape, batch, context, gpu)
    if isinstance(p, StreamingParameters):
        attended += kinds.sparse * attend_seconds(shape, batch, min(context, p.sink + p.window), gpu)
    weights, launch = weights_seconds(shape, batch, gpu), block_latency(shape, gpu)
    exact = StepTime(weights=weights, gpu_attend=attended, launch=launch)
    if not isinstance(p, LshParameters | ScanParameters):
        return exact
    return StepTime.added([exact, *[_asked(shape, config, context, gpu)] * kinds.sparse])


def sampled_layer(shape: ModelShape, config: DecodeConfig, context: int, gpu: GpuProfile) -> StepTime:
    """What `gpu_side` counts for one sampled layer."""
    weights = shape.parameters - shape.model_copy(update={"layers": shape.layers - 1}).parameters
    products = _products_seconds(weights, config.execution.batch_size, gpu)
    own = StepTime(weights=products, launch=block_latency(shape, gpu) / shape.layers)
    return StepTime.added([own, _asked(shape, config, context, gpu)])


def scan_seconds(shape: ModelShape, config: DecodeConfig, context: int, gpu: GpuProfile) -> float:
    """A layer's codes read once, scores written and read by head, proposals written once and read three times.

    Each request's codes take a kernel of their own; the others serve the batch.
    """
    p, batch = config.parameters, config.execution.batch_size
    assert isinstance(p, ScanParameters)
    moved = host_work.device_scan_bytes(shape, p, context)
    attained = gpu.memory_bandwidth_bytes_per_s.value * gpu.scan_efficiency.value
    return batch * moved / attained + _latency(SCAN_KERNELS + batch - 1, gpu)


def _asked(shape: ModelShape, config: DecodeConfig, context: int, gpu: GpuProfile) -> StepTime:
    """What a sampled layer has over a layer that attends to nothing: its exact slots, a question, and the link."""
    p, batch = config.parameters, config.execution.batch_size
    assert isinstance(p, LshParameters | ScanParameters)
    opened = p.sink + p.window + p.seal_tokens / 2
    planes = 4 * shape.head_dim * p.L * p.K if isinstance(p, LshParameters) else 4 * shape.head_dim**2
    return StepTime(
        gpu_attend=attend_seconds(shape, batch, opened, gpu),
        launch=_latency(ASK_KERNELS, gpu),
        hash=planes / gpu_bandwidth(gpu),
        link=0.0 if config.resident else _transfer_seconds(shape, config, context, gpu),
        gpu_retrieve=scan_seconds(shape, config, context, gpu) if config.scans_beside("cuda") else 0.0,
    )


def _transfer_seconds(shape: ModelShape, config: DecodeConfig, context: int, gpu: GpuProfile) -> float:
    """Queries and what is asked beside them down, outputs and their lse up."""
    rows = config.execution.batch_size * shape.heads
    down, up = rows * 2 * shape.head_dim + _told_bytes(shape, config, context), rows * (4 * shape.head_dim + 4)
    return (down + up) / link_bandwidth(gpu)


def _told_bytes(shape: ModelShape, config: DecodeConfig, context: int) -> float:
    """Codes, or margins where those direct the probes; a scan's sample, or the turned queries of one on the host."""
    p, batch = config.parameters, config.execution.batch_size
    if isinstance(p, LshParameters):
        return batch * shape.heads * p.L * (4 * p.K if p.probing.kind == "directed" else 2)
    assert isinstance(p, ScanParameters)
    if not config.scans_beside("cuda"):
        return batch * shape.heads * 4 * shape.head_dim
    lists = shape.heads if p.per == "head" else shape.kv_heads
    return batch * lists * 8 * room_for(max(p.expected(context)))


def _latency(kernels: float, gpu: GpuProfile) -> float:
    return kernels * gpu.kernel_latency_s.value
