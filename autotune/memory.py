"""What a point needs of the card's and the host's memory, known before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from truffle.autotune.target import Target
from truffle.bench.kinds import layer_kinds
from truffle.kernels.checks import expect
from truffle.kernels.store import SEGMENT_TOKENS, row_bytes
from truffle.model.config import SEPARATE, DecodeConfig, LshParameters, ModelShape

WEIGHT_BYTES = 2  # bfloat16


@dataclass(frozen=True)
class Memory:
    """Bytes on each side.

    Attributes:
        index_bytes: of the tables of all layers and requests, wherever they are.
    """

    gpu_bytes: int
    host_bytes: int
    index_bytes: int


def samples_on_gpu(config: DecodeConfig) -> bool:
    """Whether stores and tables are on the GPU, and what is sampled is retrieved and attended there."""
    return all(config.implementations.get(op, "auto").startswith("gpu_") for op in SEPARATE)


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
    held, sampled = weights + batch * exact, batch * (store + index)
    if not has_gpu:
        return Memory(0, held + sampled, batch * index)
    if samples_on_gpu(config):
        return Memory(held + sampled, 0, batch * index)
    return Memory(held, sampled, batch * index)


def require_weights_fit(shape: ModelShape, target: Target) -> None:
    """Raise ArgumentError where a limit on the card's memory leaves no room for the weights."""
    weights, usable = shape.parameters * WEIGHT_BYTES / 2**30, target.usable_gpu_bytes / 2**30
    wanted = f"room for {weights:.1f} GiB of weights"
    expect(target.vram_limit_bytes is None or weights <= usable, "vram_limit", wanted,
           f"{target.gpu_memory_bytes / 2**30:.1f} GiB, of which {usable:.1f} are usable")  # fmt: skip


def does_not_fit(needed: Memory, target: Target) -> str | None:
    """Why `needed` exceeds the target's memory, or None."""
    return gpu_shortage(needed, target) or _shortage("the host", needed.host_bytes, target.host.usable_memory_bytes)


def gpu_shortage(needed: Memory, target: Target) -> str | None:
    """Why `needed` exceeds the card's memory, or None."""
    return _shortage("the GPU", needed.gpu_bytes, target.usable_gpu_bytes) if target.gpu else None


def _shortage(name: str, needed: int, available: int) -> str | None:
    if needed <= available:
        return None
    return f"needs {needed / 1e9:.1f} GB of {name}'s usable {available / 1e9:.1f} GB"
