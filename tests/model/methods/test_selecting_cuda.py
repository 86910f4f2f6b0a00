"""The reference methods on a GPU take the host's keys where nothing is drawn; test_layer_draws.py has the rest."""

from __future__ import annotations

import pytest
import torch

from tests.model.methods.test_selecting import ALL, FEW, KV_HEADS, WEIGHTS, D, name, prompt
from tests.model.test_pipeline import on_cuda
from tests.model.tiny import SHAPE
from truffle.model.config import DecodeConfig
from truffle.model.llama import Decoder
from truffle.model.methods.layers import layer_caches
from truffle.model.operations import Operations

pytestmark = pytest.mark.gpu

HEADS = 6
DRAWN_HERE = ("oracle_sampling", "uniform", "vattention")  # by the device's own random numbers
CERTAIN = [p for p in FEW if p.method not in DRAWN_HERE or name(p) == "vattention quest"]  # that one takes all keys


def steps(p, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of a few steps, and the keys that the last one attended by head."""
    layer = layer_caches(SHAPE, config := DecodeConfig(parameters=p), Operations(config, device))[1]
    keys, values = (part.to(device) for part in prompt(120))
    layer.prefill([keys], [values])
    made = torch.Generator().manual_seed(1)
    outs = []
    for _ in range(5):
        q, k, v = (torch.randn(1, heads, D, generator=made).to(device) for heads in (HEADS, KV_HEADS, KV_HEADS))
        outs.append(layer.decode(q, k, v).cpu())
    return torch.cat(outs), layer.usage().attended.cpu()


@pytest.mark.parametrize("p", CERTAIN + ALL, ids=name)
def test_it_attends_to_what_the_host_would(p):
    (got, read), (want, expected) = steps(p, "cuda"), steps(p, "cpu")
    assert torch.equal(read, expected)
    assert (got - want).norm() / want.norm() < 1e-4


def test_a_decoder_steps_without_capturing():
    config = DecodeConfig(parameters=FEW[0])
    here, there = (Decoder(SHAPE, weights, config) for weights in (WEIGHTS, on_cuda(WEIGHTS, torch.float32)))
    text = torch.arange(100) % SHAPE.vocabulary
    for decoder in (here, there):
        decoder.prefill([text])
    for token in range(5):
        got, want = (decoder.step(torch.tensor([token])).cpu() for decoder in (there, here))
        assert (got - want).norm() / want.norm() < 1e-3
