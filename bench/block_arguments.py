"""Arguments at workload size of the operations between a block's products with its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from truffle.bench.sizes import Sizes

EXPANSION = 3.5  # of Llama 3.1's MLP over its hidden size


def rms_norm(s: Sizes, draw: int) -> dict[str, Any]:
    hidden = s.heads * s.head_dim
    x = _normal((s.batch, hidden), s, draw)
    return {"x": x, "weight": torch.ones(hidden, dtype=x.dtype), "out": torch.empty_like(x), "epsilon": 1e-5}


def rotate_heads(s: Sizes, draw: int) -> dict[str, Any]:
    stacked = _normal((s.batch, s.heads + 2 * s.kv_heads, s.head_dim), s, draw)
    angles = torch.arange(s.batch * s.head_dim // 2).view(s.batch, -1).float()
    return {
        "stacked": stacked,
        "cos": angles.cos(),
        "sin": angles.sin(),
        "q": stacked.new_empty(s.batch, s.heads, s.head_dim),
        "keys": stacked.new_empty(s.batch, s.kv_heads, s.head_dim),
        "told": None,
    }


def swiglu(s: Sizes, draw: int) -> dict[str, Any]:
    width = int(s.heads * s.head_dim * EXPANSION)
    gate_up = _normal((s.batch, 2 * width), s, draw)
    return {"gate_up": gate_up, "out": gate_up.new_empty(s.batch, width)}


def _normal(shape: tuple[int, ...], s: Sizes, draw: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(s.seed + draw)).to(s.given_dtype)


BLOCK: dict[str, Callable[[Sizes, int], dict[str, Any]]] = {
    "rms_norm": rms_norm,
    "rotate_heads": rotate_heads,
    "swiglu": swiglu,
}
