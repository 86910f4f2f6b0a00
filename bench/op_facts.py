"""What calls of an operation read, find, miss and allocate: figures that are the same at every run.

Keys are synthetic, so that `error` says whether a revision became worse, not how accurate a method is.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import torch

from truffle.bench.allocations import allocated_bytes
from truffle.bench.arguments import arguments_of
from truffle.bench.contender import QUERY_DRAWS, device_of
from truffle.bench.layer_data import LayerData
from truffle.kernels import registry
from truffle.kernels.moving import Mover, moved

SAMPLED = ("sparse_attend", "retrieve_attend")
INDEX = {"build_tables": ("offsets", "ids"), "quantize_keys": ("words", "scales")}

Facts = dict[str, Any]


def op_facts(op: str, name: str, layer: LayerData, threads: int, isa: str = "auto") -> Facts:
    """Figures of implementation `name`, means over the draws of queries; None where an operation has no such figure.

    bytes_moved: as the contract counts. keys_retrieved: over all lists. density: of the keys cached. error: of what
    samples, the mean over heads of ||o' - o|| from exact attention in units of a value's norm, as exact attention to
    synthetic keys nearly cancels; else the relative RMS of what is computed in floating point from the reference's.
    index_bytes: of the index that is made. allocated_bytes: of one call. disagrees: how outputs differ from the
    reference's beyond the contract's tolerance.
    """
    move = Mover(device_of(op, name))
    draws = [move(arguments_of(op, layer, draw)) for draw in range(QUERY_DRAWS)]
    call = partial(registry.get(op, name), threads=threads, isa=isa)
    for arguments in draws:
        call(**arguments)
    allocated = allocated_bytes(partial(call, **draws[0]))
    done = [moved(arguments, "cpu") for arguments in draws]
    want = arguments_of(op, layer)
    registry.get(op, "reference")(**want)
    return {
        "bytes_moved": statistics.mean(map(registry.contract(op).bytes_moved, done)),
        **_found(done, layer.sizes.context),
        "error": _errors(op, done, want, layer),
        "index_bytes": sum(want[part].nbytes for part in INDEX[op]) if op in INDEX else None,
        "allocated_bytes": allocated,
        "disagrees": registry.contract(op).compare(done[0], want),
    }


def _found(done: list[Facts], context: int) -> Facts:
    """keys_retrieved and density."""
    counts = [arguments["count"].double() for arguments in done if "count" in arguments]
    if not counts:
        return {"keys_retrieved": None, "density": None}
    return {
        "keys_retrieved": statistics.mean(float(count.sum()) for count in counts),
        "density": statistics.mean(float(count.mean()) for count in counts) / context,
    }


def _errors(op: str, done: list[Facts], want: Facts, layer: LayerData) -> float | None:
    if op in SAMPLED:
        return statistics.mean(_from_exact(layer, draw, arguments["out"]) for draw, arguments in enumerate(done))
    if op == "scan_sample":
        outs = [_attended(layer, draw, arguments) for draw, arguments in enumerate(done)]
        return statistics.mean(_from_exact(layer, draw, out) for draw, out in enumerate(outs))
    computed = [name for name, spec in registry.contract(op).tensors.items()
                if spec.output and want.get(name) is not None and want[name].is_floating_point()]  # fmt: skip
    found = [_relative_rms(done[0][name], want[name]) for name in computed]
    return max(found, default=None)


def _from_exact(layer: LayerData, draw: int, out: torch.Tensor) -> float:
    exact = arguments_of("dense_attend", layer, draw)
    registry.get("dense_attend", "reference")(**exact)
    return float((out - exact["out"]).norm(dim=-1).mean() / exact["values"].float().norm(dim=-1).mean())


def _attended(layer: LayerData, draw: int, drawn: Facts) -> torch.Tensor:
    """What attention over a scan's sample gives."""
    sample = {name: drawn[name] for name in ("ids", "count", "log_weight")}
    arguments = arguments_of("sparse_attend", layer, draw) | sample | {"center": None, "law": None}
    registry.get("sparse_attend", "reference")(**arguments)
    return arguments["out"]


def _relative_rms(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.float() - want.float()).norm() / want.float().norm().clamp_min(1e-30))
