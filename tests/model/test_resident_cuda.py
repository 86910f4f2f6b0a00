"""Stores and tables on a GPU: captured steps, and tables that the device has sorted."""

from __future__ import annotations

import pytest
import torch

from tests.model.test_pipeline import WIDE, certain, decode_life, on_cuda, tokens
from tests.model.test_resident import LSH, THERE, config
from truffle.model.config import Probing
from truffle.model.llama import Decoder
from truffle.model.methods.lsh import LshSelector
from truffle.model.operations import Operations
from truffle.model.weights import Weights, random_weights

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("store_format", ["float32", "int8"])
@pytest.mark.parametrize(("batch", "micro_batches"), [(1, 1), (4, 1), (4, 2)])
@pytest.mark.parametrize("probing", ["none", "ball 1"])
def test_captured_steps_agree_with_the_host(probing, batch, micro_batches, store_format):
    """Relative RMS of all logits; nearly every key is sampled, so that the rounding of a bit changes little."""
    parameters = LSH.model_copy(update={"K": 2, "L": 60, "probing": Probing.named(probing)})
    here, there = (config(parameters, named, store_format=store_format, micro_batches=micro_batches)
                   for named in ({}, THERE))  # fmt: skip
    weights = random_weights(WIDE, seed=3)
    got = decode_life(Decoder(WIDE, on_cuda(weights, torch.float32), there), batch, 20)
    want = decode_life(Decoder(WIDE, weights, here), batch, 20)
    got, want = (torch.cat([part.flatten() for part in side]) for side in (got, want))
    assert (got - want).norm() / want.norm() < 5e-3


def test_tables_on_the_device_are_those_of_the_host():
    """Of the same codes, through merges."""
    there, here = (LshSelector(LSH, 1, 64, Operations(config(implementations=named), "cuda")) for named in (THERE, {}))
    keys = torch.randn(2, 100 + 7 * 16, 64, generator=torch.Generator().manual_seed(0)).cuda()
    for part in (keys[:, :100], *keys[:, 100:].split(16, dim=1)):
        for selector in (there, here):
            work = selector.add(0, part)
            torch.cuda.synchronize()
            work()
    assert [segment.length for segment in there.tables[0]] == [100, 64, 32, 16]
    for got, want in zip(there.tables[0], here.tables[0], strict=True):
        assert got.start == want.start
        assert got.ids.is_cuda
        assert torch.equal(got.offsets.cpu(), want.offsets)
        assert torch.equal(got.ids.cpu().int(), want.ids.int())


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_step_is_one_graph_a_lane_that_allocates_nothing(micro_batches):
    settings = config(LSH.model_copy(update={"seal_tokens": 200}), micro_batches=micro_batches)
    decoder = Decoder(WIDE, on_cuda(random_weights(WIDE, seed=3), torch.bfloat16), settings)
    decoder.prefill([tokens(300, 0), tokens(333, 1)])
    assert min(store.length for store in decoder.caches[1].stores) > 200
    for step in range(5):
        decoder.step(tokens(2, step))
    assert all(len(lane.script.graphs) == 1 for lane in decoder.pipeline.lanes)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for step in range(100):
        decoder.step(tokens(2, step))
    torch.cuda.synchronize()
    assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) == before


def test_captured_steps_equal_eager_ones():
    weights: Weights = on_cuda(random_weights(WIDE, seed=3), torch.bfloat16)
    captured, eager = (Decoder(WIDE, weights, certain(config())) for _ in range(2))
    eager.observer = lambda *seen: None
    for ours, theirs in zip(*(decode_life(one, 4, 20) for one in (captured, eager)), strict=True):
        # Counters are added to in any order, and so are sums: logits may round the other way.
        assert (ours - theirs).norm() / theirs.norm() < 2e-2
