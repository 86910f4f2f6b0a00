"""Continuous batching: requests leave and join a running batch, and nobody notices."""

from __future__ import annotations

import pytest
import torch

from tests.model.tiny import SHAPE
from truffle.kernels.memory import memory_use, release_memory
from truffle.model.config import DecodeConfig, DenseParameters, LshParameters, ScanParameters, StreamingParameters
from truffle.model.llama import Decoder
from truffle.model.methods.sampled import SampledLayer
from truffle.model.weights import random_weights

WEIGHTS = random_weights(SHAPE, seed=3)
METHODS = [
    DenseParameters(),
    StreamingParameters(sink=2, window=8, dense_layers=(0,)),
    LshParameters(K=3, L=12, sink=2, window=8, dense_layers=(0,), seal_tokens=8),
    ScanParameters(budget=0.2, sink=2, window=8, dense_layers=(0,), seal_tokens=8),
]
LARGE = LshParameters(K=6, L=300, sink=2, window=8, dense_layers=(0,), seal_tokens=8)


def decoder(parameters) -> Decoder:
    return Decoder(SHAPE, WEIGHTS, DecodeConfig(parameters=parameters))


def tokens(count: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 101, (count,), generator=torch.Generator().manual_seed(seed))


class Alone:
    """One request of its own, fed given tokens."""

    def __init__(self, parameters, prompt: torch.Tensor) -> None:
        self.decoder = decoder(parameters)
        self.logits = self.decoder.prefill([prompt])

    def step(self, token: int) -> None:
        self.logits = self.decoder.step(torch.tensor([token]))


def assert_same(logits: torch.Tensor, requests: list[Alone]) -> None:
    """Within rounding. A scan takes queries in eight bits, of which one may fall the other way in a batch's product:
    that moves a request's logits by a thousandth, where another draw of keys moves them by one."""
    alone = torch.cat([request.logits for request in requests])
    scans = isinstance(requests[0].decoder.config.parameters, ScanParameters)
    torch.testing.assert_close(logits, alone, atol=5e-3 if scans else 2e-4, rtol=1e-4)


@pytest.mark.parametrize("parameters", METHODS, ids=lambda p: p.method)
def test_requests_that_join_and_leave_decode_as_if_alone(parameters):
    prompts = [tokens(length, seed) for seed, length in enumerate((60, 5, 33, 90, 1, 47))]
    batch, requests = decoder(parameters), [Alone(parameters, prompt) for prompt in prompts[:3]]
    assert_same(batch.prefill(prompts[:3]), requests)

    def steps(count: int) -> None:
        for step in range(count):
            chosen = tokens(len(requests), 100 + step)
            for request, token in zip(requests, chosen.tolist(), strict=True):
                request.step(token)
            assert_same(batch.step(chosen), requests)

    steps(12)
    batch.keep([2, 0])
    requests = [requests[2], requests[0]]
    steps(3)
    joined = [Alone(parameters, prompt) for prompt in prompts[3:5]]
    assert_same(batch.admit(prompts[3:5]), joined)
    requests += joined
    steps(12)
    batch.keep([1, 3])
    requests = [requests[1], requests[3], Alone(parameters, prompts[5])]
    assert_same(batch.admit(prompts[5:]), requests[2:])
    steps(12)
    assert batch.lengths == [60 + 39, 1 + 24, 47 + 12]


@pytest.mark.parametrize("parameters", METHODS, ids=lambda p: p.method)
def test_an_emptied_batch_and_a_second_prefill_start_anew(parameters):
    first, second = tokens(50, 1), tokens(40, 2)
    batch, want = decoder(parameters), Alone(parameters, second)
    batch.prefill([first, first])
    batch.keep([])
    assert_same(batch.admit([second]), [want])
    assert_same(batch.prefill([second]), [want])
    want.step(7)
    assert_same(batch.step(torch.tensor([7])), [want])


def sampled_layers(batch: Decoder) -> list[SampledLayer]:
    return [cache for cache in batch.caches if isinstance(cache, SampledLayer)]


def test_survivors_keep_their_stores_and_tables():
    batch = decoder(METHODS[2])
    batch.prefill([tokens(60, 0), tokens(70, 1)])
    layers = sampled_layers(batch)
    held = [(layer.stores[1], layer.selector.tables[1]) for layer in layers]
    copies = [[part.ids.clone() for part in segments] for _, segments in held]
    batch.keep([1])
    batch.admit([tokens(90, 2)])
    for layer, (store, segments), ids in zip(layers, held, copies, strict=True):
        assert layer.stores[0] is store
        assert layer.selector.tables[0] is segments
        assert all(torch.equal(part.ids, copy) for part, copy in zip(segments, ids, strict=True))


def test_memory_does_not_grow_while_requests_come_and_go():
    release_memory()
    batch = decoder(LARGE)
    batch.prefill([tokens(2000, 0), tokens(2000, 1)])
    if memory_use() == (0, 0):
        pytest.skip("without the native extension memory is torch's")
    sizes = []
    for cycle in range(20):
        batch.keep([1])
        batch.admit([tokens(2000, 2 + cycle)])
        batch.step(tokens(2, cycle))
        sizes.append((sum(memory_use()), sum(cache.memory_bytes for cache in batch.caches)))
    assert sizes[-1] == sizes[2], "what is mapped and what the layers hold stay the same"
    assert memory_use()[0] > 0
