"""Exact rivals give the dense decoder's logits, wherever the keys lie."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from truffle.bench.rivals.conveyor import DEPTH, Conveyor
from truffle.bench.rivals.hosted import HostedLayer
from truffle.bench.rivals.split import SplitLayer
from truffle.bench.rivals.streamed import StreamedLayer
from truffle.model.config import DecodeConfig, Execution, ModelShape
from truffle.model.llama import Decoder
from truffle.model.operations import Operations
from truffle.model.weights import Weights, random_weights

SHAPE = ModelShape(layers=5, hidden=64, intermediate=96, heads=6, kv_heads=2, head_dim=32, vocabulary=101)
LENGTHS = (90, 33, 5)
TOKEN_BYTES = 2 * SHAPE.kv_heads * SHAPE.head_dim * 4

Place = Callable[[Decoder, int], SplitLayer]


def streamed(decoder: Decoder, resident: int, batch: int) -> list[SplitLayer]:
    conveyor = Conveyor(decoder.weights.device)
    chunk = 8 * batch * TOKEN_BYTES
    return [StreamedLayer(resident, decoder.ops, conveyor, layer, chunk) for layer in range(decoder.shape.layers)]


def hosted(decoder: Decoder, resident: int, batch: int) -> list[SplitLayer]:
    host = Operations(decoder.config, "cpu")
    return [HostedLayer(resident, decoder.ops, host) for _ in range(decoder.shape.layers)]


def decoders(place, resident: int, batch: int, weights: Weights, micro_batches: int = 1) -> tuple[Decoder, Decoder]:
    execution = Execution(batch_size=batch, threads=2, micro_batches=micro_batches)
    dense, rival = (Decoder(SHAPE, weights, DecodeConfig(execution=execution)) for _ in range(2))
    rival.caches = place(rival, resident, batch)
    return dense, rival


def prompts(batch: int) -> list[torch.Tensor]:
    return [torch.randint(0, SHAPE.vocabulary, (n,), generator=torch.Generator().manual_seed(n))
            for n in LENGTHS[:batch]]  # fmt: skip


@pytest.mark.parametrize("resident", [0, 8, 40, 1000])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("place", [streamed, hosted], ids=lambda place: place.__name__)
def test_an_exact_rival_decodes_as_the_dense_decoder_does(place, batch, resident):
    dense, rival = decoders(place, resident, batch, random_weights(SHAPE, seed=3))
    tokens = dense.prefill(prompts(batch)).argmax(-1)
    rival.prefill(prompts(batch))
    for _ in range(12):
        want, got = dense.step(tokens), rival.step(tokens)
        torch.testing.assert_close(got, want, atol=2e-5, rtol=0)
        tokens = want.argmax(-1)
    assert [list(cache.rows()[:, 0]) for cache in rival.caches] == [[n + 12 for n in LENGTHS[:batch]]] * SHAPE.layers


@pytest.mark.parametrize("place", [streamed, hosted], ids=lambda place: place.__name__)
def test_decoded_tokens_outgrow_their_room(place):
    dense, rival = decoders(place, 8, 1, random_weights(SHAPE, seed=3))
    tokens = dense.prefill(prompts(1)).argmax(-1)
    rival.prefill(prompts(1))
    for _ in range(260):
        want, got = dense.step(tokens), rival.step(tokens)
        tokens = want.argmax(-1)
    torch.testing.assert_close(got, want, atol=2e-5, rtol=0)


def test_the_host_may_answer_for_one_half_after_the_other():
    dense, rival = decoders(hosted, 8, 3, random_weights(SHAPE, seed=3), micro_batches=2)
    tokens = dense.prefill(prompts(3)).argmax(-1)
    rival.prefill(prompts(3))
    torch.testing.assert_close(rival.step(tokens), dense.step(tokens), atol=2e-5, rtol=0)


@pytest.mark.parametrize("place", [streamed, hosted], ids=lambda place: place.__name__)
def test_twins_share_what_is_on_the_host_only(place):
    dense, rival = decoders(place, 8, 1, random_weights(SHAPE, seed=3))
    rival.prefill(prompts(1))
    first = rival.caches[0]
    other = first.twin(1)
    assert (other._exact.keys.data_ptr(), other.host_bytes) != (first._exact.keys.data_ptr(), 0)
    held = "_chunks" if place is streamed else "_keys"
    assert getattr(other, held) is getattr(first, held)


@pytest.mark.parametrize("count", [1, DEPTH - 1, DEPTH, DEPTH + 1, 3 * DEPTH + 1])
def test_a_conveyor_brings_every_chunk_in_its_turn_every_step(count):
    conveyor = Conveyor(torch.device("cpu"))
    for layer in (1, 0):
        conveyor.carry(layer, [torch.tensor([10.0 * layer + number]) for number in range(count)])
    for _ in range(3):
        seen = []
        for _ in range(2 * count):
            with conveyor.next() as chunk:
                seen.append(float(chunk))
        assert seen == [10.0 * layer + number for layer in range(2) for number in range(count)]
