"""Rates of the CUDA device and of the link to it, from pinned host memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from truffle.bench.spread import Spread, durations_s
from truffle.kernels.hardware import Frozen

LINK_SIZES_BYTES = tuple(1 << power for power in (10, 14, 16, 18, 20, 22, 24, 26, 28))
LAUNCHES = 200


class LinkPoint(Frozen):
    """One pinned copy of `size_bytes`, from its call until the host knows that it is done."""

    direction: Literal["h2d", "d2h"]
    size_bytes: int
    latency_s: Spread

    @property
    def bytes_per_s(self) -> float:
        return self.size_bytes / self.latency_s.p50


class DeviceRates(Frozen):
    """What one CUDA device attains.

    Attributes:
        memory_copy_bytes_per_s: a large copy within device memory, with reads and writes counted.
        launch_latency_s: one tiny kernel after another in a CUDA graph, so without the host's part.
        product_bytes_per_s: weights of a layer that are multiplied by one vector, captured.
        layer_kernel_latency_s: a kernel of a decoder layer that is no product and has next to nothing to do, captured
            among the products.
        kernel_latency_s: the same among its like, in calibrations that had no other: shorter than in any layer.
        scan_bytes_per_s: codes and scratch of a scan of several requests, less its kernels' latencies.
    """

    name: str
    memory_copy_bytes_per_s: Spread
    launch_latency_s: Spread
    product_bytes_per_s: Spread | None = None
    layer_kernel_latency_s: Spread | None = None
    kernel_latency_s: Spread | None = None
    scan_bytes_per_s: Spread | None = None
    link: tuple[LinkPoint, ...]


def measure(seconds: float = 3.0) -> DeviceRates | None:
    """Rates of the current CUDA device, or None where there is none."""
    import torch

    if not torch.cuda.is_available():
        return None
    from truffle.bench import device_layer

    each = seconds / (5 + 2 * len(LINK_SIZES_BYTES))
    free_bytes, _ = torch.cuda.mem_get_info()
    kernel_latency = device_layer.kernel_latency(each)
    return DeviceRates(
        name=torch.cuda.get_device_name(),
        memory_copy_bytes_per_s=_memory_copy(min(1 << 30, free_bytes // 8), each),
        launch_latency_s=_launch(each),
        product_bytes_per_s=device_layer.products(each),
        layer_kernel_latency_s=kernel_latency,
        scan_bytes_per_s=device_layer.scan(each, kernel_latency.p50),
        link=tuple(_link(each)),
    )


def _memory_copy(size_bytes: int, seconds: float) -> Spread:
    import torch

    source = torch.zeros(size_bytes, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return Spread.rate(2 * size_bytes, on_device_s(lambda: target.copy_(source), seconds))


def _launch(seconds: float) -> Spread:
    import torch

    tiny, graph = torch.zeros(1, device="cuda"), torch.cuda.CUDAGraph()
    tiny.add_(1.0)
    with torch.cuda.graph(graph):
        for _ in range(LAUNCHES):
            tiny.add_(1.0)
    return Spread.of(duration / LAUNCHES for duration in on_device_s(graph.replay, seconds))


def _link(seconds: float) -> list[LinkPoint]:
    import torch

    host = torch.zeros(LINK_SIZES_BYTES[-1], dtype=torch.uint8, pin_memory=True)
    device = torch.zeros(LINK_SIZES_BYTES[-1], dtype=torch.uint8, device="cuda")
    points = []
    for direction, target, source in (("h2d", device, host), ("d2h", host, device)):
        for size_bytes in LINK_SIZES_BYTES:
            taken = durations_s(_copy_and_wait(target[:size_bytes], source[:size_bytes]), seconds)
            points.append(LinkPoint(direction=direction, size_bytes=size_bytes, latency_s=Spread.of(taken)))
    return points


def _copy_and_wait(target: Any, source: Any) -> Callable[[], None]:
    import torch

    def run() -> None:
        target.copy_(source, non_blocking=True)
        torch.cuda.current_stream().synchronize()

    return run


def on_device_s(run: Callable[[], object], seconds: float) -> list[float]:
    """Durations of `run` between CUDA events, the first left out."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    taken: list[float] = []

    def timed() -> None:
        start.record()
        run()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end) / 1e3)

    durations_s(timed, seconds)
    return taken[1:]
