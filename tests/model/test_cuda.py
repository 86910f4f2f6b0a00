"""The decoder with its exact part on a GPU and its sampled part on the CPU."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.model.tiny import SHAPE
from truffle.kernels.quantise import quantise
from truffle.model.config import DecodeConfig, DenseParameters, Execution, LshParameters, StreamingParameters
from truffle.model.llama import Decoder
from truffle.model.weights import Weights, random_weights

pytestmark = pytest.mark.gpu

LSH = LshParameters(K=3, L=12, sink=2, window=8, dense_layers=(0,), seal_tokens=8)


def test_eight_bits_are_the_same_on_both_sides():
    """Codes are hashed where the keys are, and stored on the host."""
    x = torch.randn(10_000, 128, generator=torch.Generator().manual_seed(0))
    for host, device in zip(quantise(x), quantise(x.cuda()), strict=True):
        assert torch.equal(device.cpu(), host)


def on_cuda(weights: Weights) -> Weights:
    layers = tuple(
        dataclasses.replace(layer, **{name: tensor.cuda() for name, tensor in vars(layer).items()})
        for layer in weights.layers
    )
    return Weights(weights.embedding.cuda(), layers, weights.norm.cuda(), weights.head.cuda())


@pytest.mark.parametrize(
    "parameters", [DenseParameters(), StreamingParameters(sink=2, window=8), LSH], ids=lambda p: p.method
)
def test_steps_agree_with_the_cpu(parameters):
    config = DecodeConfig(parameters=parameters, execution=Execution(store_format="float32"))
    weights = random_weights(SHAPE, seed=3)
    host, device = Decoder(SHAPE, weights, config), Decoder(SHAPE, on_cuda(weights), config)
    prompts = [torch.randint(0, 101, (n,), generator=torch.Generator().manual_seed(n)) for n in (60, 5, 33)]
    torch.testing.assert_close(device.prefill(prompts).cpu(), host.prefill(prompts), atol=2e-3, rtol=2e-3)
    tokens = torch.tensor([1, 2, 3])
    for _ in range(30):
        want, got = host.step(tokens), device.step(tokens).cpu()
        torch.testing.assert_close(got, want, atol=5e-3, rtol=5e-3)
        tokens = want.argmax(-1)
