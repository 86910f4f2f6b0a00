"""The decoder with its exact part on a GPU and its sampled part on the CPU."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext

import pytest
import torch

from tests.model.tiny import SHAPE
from truffle.kernels.quantise import quantise
from truffle.model.background import at_once
from truffle.model.config import DecodeConfig, DenseParameters, Execution, LshParameters, StreamingParameters
from truffle.model.llama import Decoder, _causal
from truffle.model.staging import PIECE_BYTES, Courier
from truffle.model.weights import Weights, random_weights

pytestmark = pytest.mark.gpu

LSH = LshParameters(K=3, L=12, sink=2, window=8, dense_layers=(0,), seal_tokens=8)


def test_eight_bits_are_the_same_on_both_sides():
    """Codes are hashed where the keys are, and stored on the host."""
    x = torch.randn(10_000, 128, generator=torch.Generator().manual_seed(0))
    for host, device in zip(quantise(x), quantise(x.cuda()), strict=True):
        assert torch.equal(device.cpu(), host)


@pytest.mark.parametrize(("m", "n"), [(128, 128), (128, 1000), (77, 300)])
def test_chunks_attend_by_flash_attention_in_groups(m, n):
    """Flash attention alone is allowed: with any other bias or copied groups it would refuse."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    generator = torch.Generator().manual_seed(n)
    q = torch.randn(m, 32, 128, generator=generator).transpose(0, 1).bfloat16()
    keys, values = torch.randn(2, 8, n, 128, generator=generator).bfloat16()
    want = _causal(q.float(), keys.float(), values.float())
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        got = _causal(q.cuda(), keys.cuda(), values.cuda())
    torch.testing.assert_close(got.cpu().float(), want, atol=0.02, rtol=0.02)


def test_a_courier_brings_what_is_larger_than_its_pieces():
    source = torch.randint(0, 256, (3, 2 * PIECE_BYTES + 77), dtype=torch.uint8, device="cuda")
    target = torch.zeros(3, source.shape[1] + 2, dtype=torch.uint8)
    torch.cuda.synchronize()
    Courier(source.device).carry(source, target[:, 1:-1])
    assert torch.equal(target[:, 1:-1], source.cpu())


@pytest.mark.parametrize("store_format", ["bfloat16", "int8"])
def test_a_prefill_beside_the_device_is_the_one_in_line(store_format):
    """Long enough for several chunks, with more layers than may be under way."""
    shape = SHAPE.model_copy(update={"layers": 8, "head_dim": 64, "max_positions": 8192})
    config = DecodeConfig(parameters=LSH, execution=Execution(store_format=store_format, threads=4))
    weights = on_cuda(random_weights(shape, seed=3))
    prompts = [torch.randint(0, 101, (n,), generator=torch.Generator().manual_seed(n)) for n in (5000, 700)]
    beside, plain = Decoder(shape, weights, config), Decoder(shape, weights, config)
    plain.beside = lambda: nullcontext(at_once)
    for decoder in (beside, plain):
        decoder.prefill(prompts[:1])
        decoder.admit(prompts[1:])
    for ours, theirs in zip(beside.caches[1:], plain.caches[1:], strict=True):
        for request in range(2):
            assert torch.equal(ours.stores[request].keys, theirs.stores[request].keys)
            assert torch.equal(ours.stores[request].values, theirs.stores[request].values)
            for got, want in zip(ours.selector.tables[request], theirs.selector.tables[request], strict=True):
                assert torch.equal(got.offsets, want.offsets)
                assert torch.equal(got.ids.int(), want.ids.int())


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
