"""Work beside the device's: its order, its limit, its errors, and that a prefill with it is a prefill without."""

from __future__ import annotations

import threading

import pytest
import torch

from tests.model.tiny import SHAPE
from truffle.model import background, staging
from truffle.model.background import UNFINISHED, Background
from truffle.model.config import DecodeConfig, Execution, LshParameters
from truffle.model.llama import Decoder
from truffle.model.methods.sampled import SampledLayer
from truffle.model.staging import Courier
from truffle.model.weights import random_weights

LSH = LshParameters(K=3, L=12, sink=2, window=8, dense_layers=(0,), seal_tokens=8)


def test_work_is_done_in_order_on_another_thread_in_inference_mode():
    done = []
    with Background() as later:
        for number in range(20):
            later(lambda n=number: done.append((n, threading.get_ident(), torch.is_inference_mode_enabled())))
    assert [number for number, *_ in done] == list(range(20))
    assert {identity for _, identity, _ in done} != {threading.get_ident()}
    assert all(inferring for *_, inferring in done)


def test_no_more_than_the_limit_is_under_way():
    gates, begun, taken = [threading.Event() for _ in range(4)], [], []

    def piece(number: int) -> None:
        begun.append(number)
        gates[number].wait(10)

    def give() -> None:
        with Background() as later:
            for number in range(4):
                later(lambda n=number: piece(n))
                taken.append(number)
                if number + 1 == UNFINISHED:
                    full.set()

    full = threading.Event()
    giver = threading.Thread(target=give)
    giver.start()
    assert full.wait(10)
    giver.join(0.05)
    assert taken == list(range(UNFINISHED)), "the next one waits for the first"
    for gate in gates:
        gate.set()
    giver.join(10)
    assert taken == begun == list(range(4))


@pytest.mark.parametrize("further", [0, 5])
def test_an_error_reaches_whoever_gave_the_work_and_the_rest_is_dropped(further):
    done = []

    def broken() -> None:
        raise ValueError("codes: broken")

    def give() -> None:
        with Background() as later:
            later(broken)
            for number in range(further):
                later(lambda n=number: done.append(n))

    with pytest.raises(ValueError, match="codes: broken"):
        give()
    assert len(done) < UNFINISHED


def test_an_error_of_the_block_is_not_hidden_and_ends_the_thread():
    def give() -> None:
        with Background() as later:
            later(lambda: None)
            raise KeyError("outside")

    before = threading.active_count()
    with pytest.raises(KeyError, match="outside"):
        give()
    assert threading.active_count() == before


@pytest.mark.parametrize("piece_bytes", [4, 12, 64, 1 << 20])
@pytest.mark.parametrize(("dtype", "length"), [(torch.uint16, 31), (torch.float32, 8), (torch.int8, 5)], ids=str)
def test_a_courier_copies_in_pieces_of_any_size(dtype, length, piece_bytes, monkeypatch):
    monkeypatch.setattr(staging, "PIECE_BYTES", piece_bytes)
    courier, target = Courier(torch.device("cpu")), torch.zeros(3, 40, 2, dtype=dtype)
    for seed in range(2):  # its pieces serve again
        source = torch.randint(1, 100, (3, length, 2), generator=torch.Generator().manual_seed(seed)).to(dtype)
        courier.carry(source, target[:, 1 : 1 + length])
        assert target[:, 1 : 1 + length].tolist() == source.tolist()
        assert not any(target[:, 0].flatten().tolist() + target[:, length + 1].flatten().tolist())


@pytest.mark.parametrize("store_format", ["float32", "bfloat16", "int8"])
def test_a_prefill_beside_the_device_is_the_same(store_format):
    config = DecodeConfig(parameters=LSH, execution=Execution(store_format=store_format))
    weights = random_weights(SHAPE, seed=3)
    prompts = [torch.randint(0, 101, (n,), generator=torch.Generator().manual_seed(n)) for n in (60, 5, 33, 90)]
    plain = Decoder(SHAPE, weights, config)
    want = [plain.prefill(prompts[:3]), plain.admit(prompts[3:])]
    threaded = Decoder(SHAPE, weights, config)
    threaded.beside = Background
    got = [threaded.prefill(prompts[:3]), threaded.admit(prompts[3:])]
    tokens = torch.tensor([1, 2, 3, 4])
    for _ in range(12):
        want.append(plain.step(tokens))
        got.append(threaded.step(tokens))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(got, want, strict=True))
    for ours, theirs in zip(sampled(threaded), sampled(plain), strict=True):
        assert [store.length for store in ours.stores] == [store.length for store in theirs.stores]
        assert max(store.length for store in ours.stores) > 0


def test_a_prefill_raises_what_building_tables_raises():
    decoder = Decoder(SHAPE, random_weights(SHAPE, seed=3), DecodeConfig(parameters=LSH))
    decoder.beside = Background

    def broken(*args, **kwargs):
        raise MemoryError("no room for tables")

    decoder.ops.build_tables = broken
    with pytest.raises(MemoryError, match="no room for tables"):
        decoder.prefill([torch.arange(60)])
    assert decoder.lengths == []


def test_the_cpu_works_at_once():
    with background.beside(torch.device("cpu")) as later:
        assert later is background.at_once


def sampled(decoder: Decoder) -> list[SampledLayer]:
    return [cache for cache in decoder.caches if isinstance(cache, SampledLayer)]
