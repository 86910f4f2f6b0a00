"""What a point needs of the card's and the host's memory, known before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from truffle.autotune.target import Target
from truffle.bench.kinds import layer_kinds
from truffle.kernels.store import SEGMENT_TOKENS, row_bytes
from truffle.model.config import DecodeConfig, LshParameters, ModelShape

WEIGHT_BYTES = 2  # bfloat16


@dataclass(frozen=True)
class Memory:
    """Bytes on each side, and of the index of all layers and requests."""

    gpu_bytes: int
    host_bytes: int
    index_bytes: int


def index_bytes_per_layer(p: LshParameters, kv_heads: int, tokens: int) -> int:
    """16-bit ids and 32-bit offsets of one request, in segments of 65,536 tokens."""
    segments = -(-tokens // SEGMENT_TOKENS)
    return kv_heads * p.L * (2 * tokens + 4 * segments * ((1 << p.K) + 1))


def stored_row_bytes(shape: ModelShape, config: DecodeConfig) -> int:
    """A token and key/value head in the config's store format."""
    return row_bytes(shape.head_dim, getattr(torch, config.execution.store_format))


def memory(shape: ModelShape, config: DecodeConfig, context: int, has_gpu: bool) -> Memory:
    """Memory of weights, exact caches, stores and tables for a whole batch, under `dense` or `lsh`."""
    kinds, batch, p = layer_kinds(shape, config), config.execution.batch_size, config.parameters
    token_bytes = 2 * shape.kv_heads * shape.head_dim * 2
    weights = shape.parameters * WEIGHT_BYTES
    exact = kinds.dense * context * token_bytes
    store = index = 0
    if isinstance(p, LshParameters):
        middle = max(0, context - p.sink - p.window)
        exact += kinds.sparse * (p.sink + p.window + p.seal_tokens) * token_bytes
        store = kinds.sparse * middle * shape.kv_heads * stored_row_bytes(shape, config)
        index = kinds.sparse * index_bytes_per_layer(p, shape.kv_heads, middle)
    on_gpu = weights + batch * exact
    on_host = batch * (store + index)
    gpu, host = (on_gpu, on_host) if has_gpu else (0, on_gpu + on_host)
    return Memory(gpu, host, batch * index)


def does_not_fit(needed: Memory, target: Target) -> str | None:
    """Why `needed` exceeds the target's memory, or None."""
    sides = (
        ("the GPU", needed.gpu_bytes, target.usable_gpu_bytes if target.gpu else None),
        ("the host", needed.host_bytes, target.host.usable_memory_bytes),
    )
    for name, bytes_needed, available in sides:
        if available is not None and bytes_needed > available:
            return f"needs {bytes_needed / 1e9:.1f} GB of {name}'s usable {available / 1e9:.1f} GB"
    return None
