"""What a decoder layer's kernels take on the CUDA device: its products, and the small ones between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from truffle.bench.arguments import arguments_of
from truffle.bench.block_arguments import BLOCK
from truffle.bench.device_bandwidth import on_device_s
from truffle.bench.host_work import device_scan_bytes
from truffle.bench.layer_data import LayerData
from truffle.bench.sizes import Sizes
from truffle.bench.spread import Spread
from truffle.kernels import registry
from truffle.kernels.moving import Mover
from truffle.model.cache import ExactCache
from truffle.model.config import DecodeConfig, ScanParameters
from truffle.model.operations import Operations
from truffle.model.shapes import SHAPES

LLAMA = SHAPES["llama-3.1-8b"]
# Of Llama 3.1 8B: rows and columns of a layer's products.
PRODUCTS = ((6144, 4096), (4096, 4096), (28_672, 4096), (4096, 14_336))
SIZES = Sizes(1092, 32, 8, 128, 10, 150)
SMALL_KERNELS = 11  # those of `small_kernels`
SCANNED = replace(SIZES, context=49_152, batch=4)
SCAN_KERNELS = 5  # of scan_sample, beside one a request
LAYERS = 8  # captured one after another


def products(seconds: float) -> Spread:
    """Bytes a second of weights of a layer's four products, multiplied by one vector each."""
    read = LAYERS * sum(2 * rows * columns for rows, columns in PRODUCTS)
    return Spread.rate(read, _products_s(multiplying("cuda"), seconds))


def kernel_latency(seconds: float) -> Spread:
    """Seconds from one small kernel's end to the next one's, in layers whose products leave them nothing in L2.

    Among their like, these kernels took an H200 2.0 us each; in steps 3.5.
    """
    multiply = multiplying("cuda")
    alone = Spread.of(_products_s(multiply, seconds / 2)).p50
    taken = on_device_s(_captured(small_kernels("cuda", multiply)), seconds / 2)
    return Spread.of((duration - alone) / LAYERS / SMALL_KERNELS for duration in taken)


def multiplying(device: str, products: Sequence[tuple[int, int]] = PRODUCTS) -> Callable[[int], None]:
    """A call that multiplies the weights of one of the products by a vector."""
    weights = [torch.full(shape, 0.01, dtype=torch.bfloat16, device=device) for shape in products]
    vectors = [torch.full((1, shape[1]), 0.01, dtype=torch.bfloat16, device=device) for shape in products]

    def multiply(which: int) -> None:
        F.linear(vectors[which], weights[which])

    return multiply


def _products_s(multiply: Callable[[int], None], seconds: float) -> list[float]:
    def layer() -> None:
        for which in range(len(PRODUCTS)):
            multiply(which)

    return on_device_s(_captured(layer), seconds)


def scan(seconds: float, latency_s: float) -> Spread:
    """Bytes a second of a scan of `SCANNED`, whose kernels have a latency of `latency_s` each."""
    data = LayerData(SCANNED)
    found = Mover("cuda")(arguments_of("scan_sample", data))
    run = registry.get("scan_sample", "auto", "cuda")
    taken = on_device_s(_captured(lambda: run(**found)), seconds)
    moved = SCANNED.batch * device_scan_bytes(LLAMA, ScanParameters(), SCANNED.context)
    waited = (SCAN_KERNELS + SCANNED.batch) * latency_s
    return Spread.of(moved / max(duration / LAYERS - waited, 0.1 * duration / LAYERS) for duration in taken)


def small_kernels(device: str, multiply: Callable[[int], None]) -> Callable[[], None]:
    """A layer for one request that has 68 tokens: the cost model's BLOCK_KERNELS and ATTEND_KERNELS, and between them
    the products, by number."""
    ops, move = Operations(DecodeConfig(), device), Mover(device)
    norm, rotate, swiglu = (move(BLOCK[op](SIZES, 0)) for op in ("rms_norm", "rotate_heads", "swiglu"))
    keys = torch.zeros(SIZES.kv_heads, 68, SIZES.head_dim, dtype=torch.bfloat16, device=device)
    cache = ExactCache([keys], [keys], SIZES.context)
    out = torch.empty(1, SIZES.heads, SIZES.head_dim, device=device)
    lse = torch.empty(1, SIZES.heads, device=device)

    def layer() -> None:
        ops.rms_norm(**norm)
        multiply(0)
        ops.rotate_heads(**rotate)
        cache.put(cache.in_use.long(), rotate["keys"], rotate["keys"])
        cache.in_use.add_(0)  # the slot stays the same
        cache.attend(rotate["q"], ops, out, lse)
        out.flatten(1).to(torch.bfloat16)
        multiply(1)
        ops.rms_norm(**norm)
        multiply(2)
        ops.swiglu(**swiglu)
        multiply(3)

    return layer


def _captured(layer: Callable[[], None]) -> Callable[[], None]:
    layer()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(LAYERS):
            layer()
    return graph.replay
