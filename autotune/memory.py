"""What a point needs of the card's and the host's memory, known before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from truffle.autotune.target import Target
from truffle.bench.kinds import layer_kinds
from truffle.bench.vram import sampled_bytes, selector_bytes, static_bytes
from truffle.kernels.checks import expect
from truffle.kernels.store import row_bytes
from truffle.model.config import DecodeConfig, LshParameters, ModelShape, ScanParameters

WEIGHT_BYTES = 2  # bfloat16


@dataclass(frozen=True)
class Memory:
    """Bytes on each side.

    Attributes:
        index_bytes: of the tables of all layers and requests, or what else finds keys, wherever they are.
    """

    gpu_bytes: int
    host_bytes: int
    index_bytes: int


def stored_row_bytes(shape: ModelShape, config: DecodeConfig) -> int:
    """A token and key/value head in the config's store format."""
    return row_bytes(shape.head_dim, getattr(torch, config.execution.store_format))


def memory(shape: ModelShape, config: DecodeConfig, context: int, has_gpu: bool) -> Memory:
    """Memory of weights, exact caches, stores and tables for a whole batch.

    Only what `lsh` or `scan` samples lies on the host while a card has the rest, with it the codes of a scan or not. A
    reference method keeps all keys where the model is.
    """
    device = "cuda" if has_gpu else "cpu"
    held = static_bytes(shape, config, context, WEIGHT_BYTES, device)
    if not isinstance(config.parameters, LshParameters | ScanParameters):
        index = selector_bytes(shape, config, context)
        return Memory(held, 0, index) if has_gpu else Memory(0, held, index)
    caches = config.execution.batch_size * layer_kinds(shape, config).sparse
    store, index = (caches * size for size in sampled_bytes(shape, config, context, device))
    apart = 0 if config.resident else store if config.scans_beside(device) else store + index
    apart = store if config.linked else apart
    return Memory(held, apart, index) if has_gpu else Memory(0, held + apart, index)


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
