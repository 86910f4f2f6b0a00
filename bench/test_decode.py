"""One decode step of a small seeded model on calibrated keys, with each kind of attention: `make bench`."""

from __future__ import annotations

import pytest
import torch

from truffle.bench import synthetic
from truffle.model.config import (
    DecodeConfig,
    DenseParameters,
    Execution,
    LshParameters,
    ModelShape,
    ScanParameters,
    StreamingParameters,
)
from truffle.model.generate import DensityMeter
from truffle.model.llama import Decoder
from truffle.model.weights import random_weights

SHAPE = ModelShape(layers=4, hidden=512, intermediate=1024, heads=8, kv_heads=2, head_dim=64, vocabulary=1000)
CONTEXT = 16_384
STEPS = 40  # a step lengthens the context, so their number is fixed

METHODS = {
    "dense": DenseParameters(),
    "streaming": StreamingParameters(dense_layers=(0,)),
    "lsh": LshParameters(dense_layers=(0,)),
    "scan": ScanParameters(dense_layers=(0,)),
}


@pytest.fixture
def torch_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    yield
    torch.set_num_threads(before)


@pytest.mark.benchmark(group="decode step")
@pytest.mark.parametrize("method", METHODS)
def test_decode_step(method, threads, torch_threads, benchmark, described):
    config = DecodeConfig(parameters=METHODS[method], execution=Execution(threads=threads))
    decoder = Decoder(SHAPE, random_weights(SHAPE), config)
    decoder.adopt(*synthetic_prompt())
    decoder.observer = meter = DensityMeter()
    token = torch.tensor([1])
    benchmark.pedantic(decoder.step, args=(token,), rounds=STEPS, warmup_rounds=3)
    described |= {"config": config.model_dump(mode="json"), "implementations": decoder.ops.names}
    described |= {"shape": SHAPE.model_dump(mode="json"), "context": CONTEXT, "density": meter.density}
    described["memory_bytes"] = sum(cache.memory_bytes for cache in decoder.caches)
    if benchmark.stats:
        described["tokens_per_s"] = 1.0 / benchmark.stats["median"]


def synthetic_prompt() -> tuple[list[list[torch.Tensor]], list[list[torch.Tensor]]]:
    """Keys and values of one request, by layer; prefill would take most of the suite's time."""
    layers = [synthetic.keys_and_values(SHAPE.kv_heads, CONTEXT, SHAPE.head_dim, seed, torch.float32)
              for seed in range(SHAPE.layers)]  # fmt: skip
    return [[keys] for keys, _ in layers], [[values] for _, values in layers]
