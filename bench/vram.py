"""A limit on the GPU's memory, as a smaller card would set it: refused where it cannot hold, and enforced."""

from __future__ import annotations

import re

import torch

from truffle.bench.kinds import layer_kinds
from truffle.kernels.checks import expect
from truffle.kernels.codes import code_bytes, with_spare
from truffle.kernels.store import index_bytes, row_bytes
from truffle.model.config import (
    DecodeConfig,
    LshParameters,
    ModelShape,
    QuestParameters,
    ScanParameters,
    SelectingParameters,
    StreamingParameters,
    VAttentionParameters,
)

# Beside weights and what `static_bytes` counts: activations, workspaces, graphs, and keys and values of one request and
# layer while caches are filled.
HEADROOM_BYTES = 1 << 30

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


def static_bytes(
    shape: ModelShape, config: DecodeConfig, context: int, element_bytes: int = 2, device: str = "cuda"
) -> int:
    """What weights, exact caches, and stores, tables and codes that are there take on the model's device while the
    batch decodes.

    A reference method keeps all keys and values where the model is. Stores are as long as the prompts, codes beside
    them have some room; what is full makes room for half as much again.
    """
    kinds, p, batch = layer_kinds(shape, config), config.parameters, config.execution.batch_size
    slots = kinds.dense * context
    if isinstance(p, LshParameters | ScanParameters):
        slots += kinds.sparse * (p.sink + p.seal_tokens + p.window)
    elif isinstance(p, StreamingParameters):
        slots += kinds.sparse * (p.sink + p.window)
    elif isinstance(p, SelectingParameters):
        slots += kinds.sparse * context
    exact = batch * slots * shape.kv_bytes_per_token(element_bytes) // shape.layers
    store, index = sampled_bytes(shape, config, context, device)
    with_rows = config.resident and not config.linked
    there = store * with_rows + index * (config.resident or config.scans_beside(device))
    sampled = batch * kinds.sparse * there
    return shape.parameters * element_bytes + exact + sampled + selector_bytes(shape, config, context)


def selector_bytes(shape: ModelShape, config: DecodeConfig, context: int) -> int:
    """What a reference method keeps beside all keys, for the batch: bounds of Quest's pages, codes of a heavy set's
    tables, wherever the model is.
    """
    p = config.parameters
    if not isinstance(p, SelectingParameters):
        return 0
    middle, heavy = max(0, context - p.sink - p.window), getattr(p, "heavy", p.method)
    a_head = 0
    if isinstance(p, QuestParameters | VAttentionParameters) and heavy == "quest":
        a_head = -(-middle // p.page_size) * 2 * shape.head_dim * 4  # least and most, float32
    elif isinstance(p, VAttentionParameters) and heavy == "lsh":
        a_head = middle * p.L * 2
    return config.execution.batch_size * layer_kinds(shape, config).sparse * shape.kv_heads * a_head


def sampled_bytes(shape: ModelShape, config: DecodeConfig, context: int, device: str = "cuda") -> tuple[int, int]:
    """Store, and tables or codes, of a request and layer under `lsh` or `scan`, of a model on `device`; none under
    others."""
    p = config.parameters
    if not isinstance(p, LshParameters | ScanParameters):
        return 0, 0
    middle = max(0, context - p.sink - p.window)
    store = shape.kv_heads * middle * row_bytes(shape.head_dim, getattr(torch, config.execution.store_format))
    if isinstance(p, ScanParameters):
        tokens = with_spare(middle) if config.scans_beside(device) else middle
        return store, code_bytes(shape.kv_heads, tokens, shape.head_dim, p.bits)
    return store, index_bytes(shape.kv_heads, p.K, p.L, middle)


def building_bytes(shape: ModelShape, context: int, element_bytes: int = 2) -> int:
    """What filling a layer takes in passing: a request's rows in float32."""
    return 3 * context * shape.kv_bytes_per_token(element_bytes) // shape.layers


def filled(
    shape: ModelShape, config: DecodeConfig, context: int, room_bytes: int, element_bytes: int = 2
) -> DecodeConfig:
    """The config with as many more dense layers as `room_bytes` of the GPU hold, weights included; the first ones.

    Exact attention on a GPU takes a fraction of the time of a sampled layer on the host, where its keys fit.

    Raises:
        ArgumentError: the method samples no layers.
    """
    p = config.parameters
    samples = isinstance(p, LshParameters | ScanParameters)
    expect(samples, "fill_vram", "the method lsh or scan, whose layers sample", p.method)
    assert isinstance(p, LshParameters | ScanParameters)
    own = [layer for layer in p.dense_layers if layer < shape.layers]
    order = [*own, *(layer for layer in range(shape.layers) if layer not in own)]
    best = config
    for count in range(len(own) + 1, shape.layers + 1):
        parameters = p.model_copy(update={"dense_layers": tuple(sorted(order[:count]))})
        more = config.model_copy(update={"parameters": parameters})
        if static_bytes(shape, more, context, element_bytes) > room_bytes:
            break
        best = more
    return best


def limit_vram(limit_bytes: int, needed_bytes: int) -> int:
    """Let this process have `limit_bytes` of the current GPU, the driver's and libraries' own part included.

    Returns:
        Bytes that are left for tensors.

    Raises:
        ArgumentError: `needed_bytes` do not fit, or the GPU has less than the limit.
        torch.OutOfMemoryError: later, by whatever asks for more.
    """
    torch.cuda.init()
    torch.zeros(1, device="cuda")
    free, total = torch.cuda.mem_get_info()
    expect(limit_bytes <= total, "vram_limit", f"at most the GPU's {total / 2**30:.1f} GiB", _gib(limit_bytes))
    own = limit_bytes - (total - free - torch.cuda.memory_reserved())
    expect(needed_bytes <= own, "vram_limit", f"room for {_gib(needed_bytes)} of weights and caches", _gib(own))
    torch.cuda.set_per_process_memory_fraction(own / total)
    return own


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
