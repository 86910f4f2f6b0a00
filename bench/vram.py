"""A limit on the GPU's memory, as a smaller card would set it: refused where it cannot hold, and enforced."""

from __future__ import annotations

import re

import torch

from truffle.bench.kinds import layer_kinds
from truffle.kernels.checks import expect
from truffle.model.config import DecodeConfig, LshParameters, ModelShape, StreamingParameters

_UNITS = {"GiB": 2**30, "GB": 10**9, "MiB": 2**20, "MB": 10**6}


def parse_size(text: str) -> int:
    """Bytes of a size such as ``24GiB``.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(GiB|GB|MiB|MB)", text)
    if match is None or float(match[1]) == 0.0:
        raise ValueError(f"vram_limit: expected a size such as 24GiB, got {text!r}")
    return int(float(match[1]) * _UNITS[match[2]])


def static_bytes(shape: ModelShape, config: DecodeConfig, context: int, element_bytes: int = 2) -> int:
    """What weights and exact caches take on the GPU for as long as the batch decodes."""
    kinds, p = layer_kinds(shape, config), config.parameters
    slots = kinds.dense * context
    if isinstance(p, LshParameters):
        slots += kinds.sparse * (p.sink + p.seal_tokens + p.window)
    elif isinstance(p, StreamingParameters):
        slots += kinds.sparse * (p.sink + p.window)
    exact = config.execution.batch_size * slots * shape.kv_bytes_per_token(element_bytes) // shape.layers
    return shape.parameters * element_bytes + exact


def limit_vram(limit_bytes: int, needed_bytes: int) -> None:
    """Let this process have `limit_bytes` of the current GPU, the driver's and libraries' own part included.

    Raises:
        ArgumentError: `needed_bytes` do not fit, or the GPU has less than the limit.
        torch.OutOfMemoryError: later, by whatever asks for more.
    """
    torch.cuda.init()
    torch.zeros(1, device="cuda")
    free, total = torch.cuda.mem_get_info()
    expect(limit_bytes <= total, "vram_limit", f"at most the GPU's {total / 2**30:.1f} GiB", _gib(limit_bytes))
    own = limit_bytes - (total - free - torch.cuda.memory_reserved())
    expect(needed_bytes <= own, "vram_limit", f"room for {_gib(needed_bytes)} of weights and exact caches", _gib(own))
    torch.cuda.set_per_process_memory_fraction(own / total)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
