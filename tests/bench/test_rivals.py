"""Exact rivals give the dense decoder's logits, wherever the keys lie."""

from __future__ import annotations

import sys

import pytest
import torch

from tests.bench import fake_magicpig
from tests.model.test_pipeline import on_cuda
from truffle.bench import rivals_command, synthetic
from truffle.bench.magicpig import extensions
from truffle.bench.records import write_records
from truffle.bench.rivals import contenders, race
from truffle.bench.rivals.conveyor import DEPTH, Conveyor
from truffle.bench.rivals.hosted import HostedLayer
from truffle.bench.rivals.split import SplitLayer
from truffle.bench.rivals.streamed import StreamedLayer
from truffle.bench.tables import rival_table, show
from truffle.bench.workloads import parse_workload
from truffle.model.config import DecodeConfig, Execution, LshParameters, ModelShape
from truffle.model.llama import Decoder
from truffle.model.operations import Operations
from truffle.model.shapes import SHAPES
from truffle.model.weights import Weights, random_weights

SHAPE = ModelShape(layers=5, hidden=64, intermediate=96, heads=6, kv_heads=2, head_dim=32, vocabulary=101)
LENGTHS = (90, 33, 5)
TOKEN_BYTES = 2 * SHAPE.kv_heads * SHAPE.head_dim * 4
TINY = ModelShape(layers=4, hidden=64, intermediate=96, heads=4, kv_heads=2, head_dim=32, vocabulary=101)
BF16 = torch.bfloat16
SAMPLED = DecodeConfig(
    parameters=LshParameters(K=4, L=20, dense_layers=(0,), seal_tokens=64), implementations={"retrieve_attend": "auto"}
)


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
    _, rival = decoders(place, 8, 1, random_weights(SHAPE, seed=3))
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


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SHAPES, "tiny", TINY)
    monkeypatch.setattr(contenders, "layers_beyond_cache", lambda layer_bytes: 2)
    monkeypatch.setattr(contenders, "STAGING_BYTES", 10 * TINY.kv_bytes_per_token())
    monkeypatch.setattr(race, "ROUNDS", 2)
    extensions.built_threads.cache_clear()
    contenders._gate.cache_clear()
    for name, module in fake_magicpig.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield parse_workload("tiny@700")
    torch.set_num_threads(before)
    extensions.built_threads.cache_clear()


def compared(workload, batches, room_tokens: int):
    records = rivals_command.compare(workload, SAMPLED, batches, room_tokens * TINY.kv_bytes_per_token(), "cpu", BF16)
    return {(record["batch"], record["contender"]): record for record in records}


def test_a_race_times_what_fits_and_says_why_not(tiny, tmp_path):
    found = compared(tiny, (1, 2), 900)
    write_records(tmp_path / "rivals.json", found.values(), "rivals")
    show(rival_table(list(found.values())))
    assert [name for batch, name in found if batch == 1] == [
        "truffle bfloat16", "truffle int8", "magicpig_v02 kernels", "exact: device", "exact: host",
        "exact: device and host", "exact: streamed",
    ]  # fmt: skip
    assert "are left" in found[1, "exact: device"]["reason"]
    assert "median_us" not in found[1, "exact: device"]
    best = min(r["median_us"] for (batch, _), r in found.items() if batch == 1 and r["exact"] and "median_us" in r)
    ours = found[1, "truffle bfloat16"]
    assert ours["dense_layers"] == 1
    assert ours["faster_than_best_exact"] == pytest.approx(best / ours["median_us"])
    streamed, beside = found[1, "exact: streamed"], found[1, "exact: device and host"]
    assert (beside["resident_tokens"], streamed["resident_tokens"]) == (900 - 256, 900 - 256 - 10)
    assert streamed["host_bytes_read"] == (700 - 634) * TINY.kv_bytes_per_token()
    for record in found.values():
        assert record["reason"] or record["samples"] == 2 * race.TURN_STEPS


def test_what_is_left_of_the_device_holds_more_dense_layers(tiny):
    found = compared(tiny, (1,), 1000)
    layers = {name: record["dense_layers"] for (_, name), record in found.items() if name.startswith("truffle")}
    assert layers == {
        "truffle bfloat16": 1,
        "truffle int8": 1,
        "truffle bfloat16, filled": 2,
        "truffle int8, filled": 2,
    }
    assert found[1, "truffle int8, filled"]["samples"] == 2 * race.TURN_STEPS


def test_where_everything_fits_nothing_is_split(tiny):
    found = compared(tiny, (1,), 4000)
    assert found[1, "exact: device"]["reason"] is None
    assert found[1, "exact: streamed"]["reason"] == "everything fits on the device"


def test_a_contender_that_fails_leaves_the_others_their_times(tiny, monkeypatch):
    monkeypatch.setattr(HostedLayer, "answering", lambda self, exchange: 1 / 0)
    found = compared(tiny, (1,), 900)
    assert found[1, "exact: host"]["reason"] == "failed: ZeroDivisionError: division by zero"
    assert "median_us" in found[1, "exact: streamed"]


def test_an_exact_rival_that_attends_to_something_else_is_not_timed(tiny, monkeypatch):
    prefill = StreamedLayer.prefill
    monkeypatch.setattr(StreamedLayer, "prefill", lambda self, keys, values: prefill(self, values, keys))
    found = compared(tiny, (1,), 900)
    assert found[1, "exact: streamed"]["reason"].startswith("failed: attention differs by")


def test_magicpigs_kernels_attend_as_ours_do_where_nearly_everything_is_sampled(tiny):
    """Which keys are sampled near a plane depends on the rounding of centred keys; here it hardly matters."""
    certain = LshParameters(K=2, L=60, dense_layers=(0,), seal_tokens=64)
    config = DecodeConfig(parameters=certain, execution=Execution(batch_size=2))
    weights = synthetic.weights(TINY, "cpu", BF16)
    ground = contenders.Ground(tiny, weights, *synthetic.keys_and_values(2, 700, 32, 0, BF16), 1 << 40)
    sampled = [found for found in contenders.contenders(ground, [config]) if not found.exact]
    ours, theirs = (race.Entrant(sampled[number].build()) for number in (0, 2))
    assert theirs.density == pytest.approx(ours.density, abs=0.01)
    assert torch.equal(ours.attended[0], theirs.attended[0]), "a dense layer"
    assert (ours.attended[1] - theirs.attended[1]).norm() / ours.attended[1].norm() < 0.02


def test_contenders_share_a_heat_while_they_fit():
    def of(*sizes):
        return [
            contenders.Contender(str(size), SAMPLED, True, size, size // 4, lambda: None, None, {}) for size in sizes
        ]

    found = race.heats(of(3, 4, 6, 2, 8), 10)
    assert [[c.device_bytes for c in heat] for heat in found] == [[3, 4, 2], [6], [8]]


@pytest.mark.gpu
@pytest.mark.parametrize("resident", [0, 8, 40])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("place", [streamed, hosted], ids=lambda place: place.__name__)
def test_captured_steps_agree_with_the_cpu(place, batch, resident):
    weights = random_weights(SHAPE, seed=3)
    dense, _ = decoders(place, resident, batch, weights)
    _, rival = decoders(place, resident, batch, on_cuda(weights, torch.float32))
    tokens = dense.prefill(prompts(batch)).argmax(-1)
    rival.prefill(prompts(batch))
    for _ in range(30):
        want, got = dense.step(tokens), rival.step(tokens.cuda()).cpu()
        torch.testing.assert_close(got, want, atol=5e-3, rtol=5e-3)
        tokens = want.argmax(-1)
