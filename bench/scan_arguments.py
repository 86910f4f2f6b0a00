"""Arguments at workload size of the operations of the scan, and layers enough for it to stream from memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from truffle.bench.copies import elsewhere
from truffle.bench.timing import layers_beyond_cache
from truffle.kernels import registry
from truffle.kernels.codes import Codes, code_bytes
from truffle.kernels.rotation import rotation
from truffle.kernels.scanning import room_for

if TYPE_CHECKING:
    from truffle.bench.layer_data import LayerData

FLOOR = 0.1  # of the keys wanted: how many more are expected of a uniform sample


def quantize_keys(data: LayerData, draw: int) -> dict[str, Any]:
    s = data.sizes
    codes = Codes.allocate(s.kv_heads, s.context, s.head_dim, s.bits)
    return {
        "keys": data.keys_and_values[0],
        "center": data.center,
        "rotation": _rotation(data),
        "words": codes.words,
        "scales": codes.scales,
        "start": 0,
        "bits": s.bits,
    }


def scan_sample(data: LayerData, draw: int) -> dict[str, Any]:
    s = data.sizes
    wanted = s.wanted * s.context
    rows = s.kv_heads if s.per_group else s.heads
    capacity = min(s.context, room_for(wanted * (1 + FLOOR)))
    return {
        "q": (data.queries(draw).float() @ _rotation(data)).contiguous(),
        "codes": [data.codes] * s.batch,
        "lengths": torch.full((s.batch,), s.context, dtype=torch.int32),
        "wanted": torch.full((s.batch, rows), wanted),
        "floor": torch.full((s.batch,), FLOOR * wanted),
        "step": torch.full((s.batch,), draw, dtype=torch.int32),
        "ids": torch.empty(s.batch * rows, capacity, dtype=torch.int32),
        "count": torch.zeros(s.batch * rows, dtype=torch.int32),
        "log_weight": torch.empty(s.batch * rows, capacity),
        "scale": s.head_dim**-0.5,
        "seed": s.seed,
        "layer": 0,
        "draw": "poisson",
    }


def made_codes(data: LayerData, threads: int) -> Codes:
    """Codes of all the layer's keys."""
    s = data.sizes
    codes = Codes.allocate(s.kv_heads, s.context, s.head_dim, s.bits, threads=threads).longer(s.context)
    arguments = quantize_keys(data, 0) | {"words": codes.words, "scales": codes.scales}
    registry.get("quantize_keys")(**arguments, threads=threads)
    return codes


def layers_for(data: LayerData) -> list[LayerData]:
    """`data` and layers with copies of its codes, more than the caches hold together."""
    s, codes = data.sizes, data.codes
    copies = layers_beyond_cache(code_bytes(s.kv_heads, s.context, s.head_dim, s.bits)) - 1
    layers = [data.with_codes(replace(codes, words=elsewhere(codes.words))) for _ in range(copies)]
    return [data, *layers]


def _rotation(data: LayerData) -> torch.Tensor:
    return torch.from_numpy(rotation(data.sizes.head_dim, data.sizes.seed, 0).copy())


SCAN: dict[str, Callable[[LayerData, int], dict[str, Any]]] = {
    "quantize_keys": quantize_keys,
    "scan_sample": scan_sample,
}
