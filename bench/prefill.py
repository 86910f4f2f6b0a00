"""Times a prefill with tables beside the same without: what tables add to the time to the first token."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from truffle.bench import synthetic
from truffle.bench.kinds import layer_kinds
from truffle.bench.prefill_trace import trace_prefill
from truffle.bench.workloads import Workload
from truffle.kernels.checks import expect
from truffle.model.config import DecodeConfig, LshParameters, ModelShape
from truffle.model.llama import Decoder
from truffle.model.methods.lsh import LshSelector
from truffle.model.methods.sampled import SampledLayer


class _Unindexed(LshSelector):
    """Takes keys without hashing them."""

    def add(self, request: int, keys: torch.Tensor) -> Callable[[], None]:
        return _nothing


def _nothing() -> None:
    pass


def built_shape(workload: Workload, config: DecodeConfig, layers: int | None) -> ModelShape:
    """The workload's shape with its first `layers` layers, of which some must be sampled.

    Raises:
        ArgumentError: another method than lsh, tables that are not the host's, layers that the model does not have, or
            dense ones only.
    """
    expect(isinstance(config.parameters, LshParameters), "method", "lsh, which has tables", config.method)
    expect(not config.resident, "implementations", "tables on the host", config.implementations)
    most = workload.shape.layers
    expect(layers is None or 1 <= layers <= most, "layers", f"1 to {most}", layers)
    shape = workload.shape.model_copy(update={"layers": layers or most})
    expect(layer_kinds(shape, config).sparse > 0, "layers", "one at least that is not dense", layers)
    return shape


def time_prefill(
    shape: ModelShape, config: DecodeConfig, context: int, rounds: int, device: str, dtype: torch.dtype
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read a prompt of `context` tokens with tables and without, by turns; returns a record and one a layer.

    Weights are random. Both copy every sampled layer's keys and values into stores on the host; hashing, the copy of
    codes and tables are in one only. Either reads the prompt once beforehand: kernels are compiled then, and the
    host's memory is touched first, which is why `first_` figures stand beside.
    """
    weights = synthetic.weights(shape, device, dtype)
    decoders = {name: Decoder(shape, weights, config) for name in ("tables", "without")}
    _leave_out_tables(decoders["without"])
    prompt = torch.randint(shape.vocabulary, (context,), generator=torch.Generator().manual_seed(0)).to(device)
    first = {name: _first_token_s(decoder, prompt) for name, decoder in decoders.items()}
    times: dict[str, list[float]] = {name: [] for name in decoders}
    order, shuffle = list(decoders), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            times[name].append(_first_token_s(decoders[name], prompt))
    layers, tail_us = trace_prefill(decoders["tables"], prompt)
    kinds = layer_kinds(shape, config)
    record = {
        **_compared(times),
        **{f"first_{name}_s": value for name, value in first.items()},
        "tail_us": tail_us,
        **_typical(layers),
        "layers": shape.layers,
        "dense_layers": kinds.dense,
        "sparse_layers": kinds.sparse,
        "context": context,
        "rounds": rounds,
        "kind": "measured",
        **_memory(decoders["tables"], device),
    }
    return record, layers


def _leave_out_tables(decoder: Decoder) -> None:
    p = decoder.config.parameters
    assert isinstance(p, LshParameters)
    for index, cache in enumerate(decoder.caches):
        if isinstance(cache, SampledLayer):
            cache.selector = _Unindexed(p, index, decoder.shape.head_dim, decoder.ops)


def _first_token_s(decoder: Decoder, prompt: torch.Tensor) -> float:
    """Seconds until the first token is known and decoding can start; what was read is forgotten then."""
    if prompt.is_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    decoder.prefill([prompt]).argmax(-1).tolist()
    seconds = time.perf_counter() - started
    decoder.keep([])
    return seconds


def _compared(times: dict[str, list[float]]) -> dict[str, float]:
    """Medians, and what tables add by them; least and most over the rounds beside."""
    added = [100 * (a / b - 1) for a, b in zip(times["tables"], times["without"], strict=True)]
    ttft_s, without_s = (statistics.median(times[name]) for name in ("tables", "without"))
    return {
        "ttft_s": ttft_s,
        "ttft_without_tables_s": without_s,
        "overhead_percent": 100 * (ttft_s / without_s - 1),
        "overhead_percent_low": min(added),
        "overhead_percent_high": max(added),
    }


def _typical(layers: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over the sampled layers."""
    sampled = [layer for layer in layers if "host_us" in layer]
    names = [name for name in sampled[0] if name.endswith("_us")]
    return {f"layer_{name}": statistics.median(layer[name] for layer in sampled) for name in names}


def _memory(decoder: Decoder, device: str) -> dict[str, int]:
    found = {"host_bytes": sum(cache.memory_bytes for cache in decoder.caches if isinstance(cache, SampledLayer))}
    if device == "cuda":
        found |= {
            "gpu_allocated_bytes": torch.cuda.max_memory_allocated(),
            "gpu_reserved_bytes": torch.cuda.max_memory_reserved(),
        }
    return found
