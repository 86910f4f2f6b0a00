"""What the benchmark suites time: one modest layer for the operations, and a small seeded model for decode steps."""

from __future__ import annotations

import torch

from truffle.bench import synthetic
from truffle.bench.sizes import Sizes
from truffle.model.config import METHODS, DecodeConfig, DenseParameters, Execution, ModelShape
from truffle.model.llama import Decoder
from truffle.model.weights import random_weights

LAYER = Sizes(context=16_384, heads=8, kv_heads=2, head_dim=128, K=10, L=60)
SHAPE = ModelShape(layers=4, hidden=512, intermediate=1024, heads=8, kv_heads=2, head_dim=64, vocabulary=1000)
CONTEXT = 16_384
TOKEN = 1


def decode_config(method: str, threads: int) -> DecodeConfig:
    """A method with its own defaults; the first layer attends everything."""
    kind = METHODS[method]
    parameters = kind() if kind is DenseParameters else kind.model_validate({"dense_layers": [0]})
    return DecodeConfig(parameters=parameters, execution=Execution(threads=threads))


def decoder(method: str, threads: int) -> Decoder:
    """One that has read CONTEXT calibrated keys; prefill would take most of the suites' time."""
    made = Decoder(SHAPE, random_weights(SHAPE), decode_config(method, threads))
    layers = [synthetic.keys_and_values(SHAPE.kv_heads, CONTEXT, SHAPE.head_dim, seed, torch.float32)
              for seed in range(SHAPE.layers)]  # fmt: skip
    made.adopt([[keys] for keys, _ in layers], [[values] for _, values in layers])
    return made


def next_logits(made: Decoder) -> torch.Tensor:
    """Logits [1, vocabulary] after one more token."""
    return made.step(torch.tensor([TOKEN]))
