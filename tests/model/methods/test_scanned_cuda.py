"""Codes on a GPU, rows on the host: captured steps, which go on through seals."""

from __future__ import annotations

import gc

import pytest
import torch

from tests.model.test_pipeline import WIDE, decode_life, executed, on_cuda, tokens
from truffle.model.config import DecodeConfig, ScanParameters
from truffle.model.llama import Decoder
from truffle.model.methods.scanned import ScannedLayer
from truffle.model.weights import random_weights

pytestmark = pytest.mark.gpu

SMALL = {"sink": 2, "window": 8, "dense_layers": (0,), "seal_tokens": 8}
SAMPLE, ALL = ScanParameters(budget=0.3, **SMALL), ScanParameters(budget=1.0, **SMALL)
IMPLEMENTATIONS = ["gpu_triton", "gpu_cupy"]


def decoder_of(p: ScanParameters, dtype=torch.float32, implementation="auto", **execution) -> Decoder:
    named = {} if implementation == "auto" else {"scan_sample": implementation}
    config = executed(DecodeConfig(parameters=p, implementations=named), **execution)
    return Decoder(WIDE, on_cuda(random_weights(WIDE, seed=3), dtype), config)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("batch", "micro_batches"), [(1, 1), (4, 1), (4, 2)])
@pytest.mark.parametrize("per", ["group", "head"])
def test_captured_steps_agree_with_the_cpu(per, batch, micro_batches, implementation):
    """Where every key is drawn, as the two sides' roundings draw others. Relative RMS of all logits."""
    pytest.importorskip("cupy" if implementation == "gpu_cupy" else "triton")
    p = ALL.model_copy(update={"per": per})
    got = decode_life(decoder_of(p, implementation=implementation, micro_batches=micro_batches), batch, 20)
    want = decode_life(Decoder(WIDE, random_weights(WIDE, seed=3), executed(DecodeConfig(parameters=p))), batch, 20)
    got, want = (torch.cat([part.flatten() for part in side]) for side in (got, want))
    assert (got - want).norm() / want.norm() < 5e-3


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_captured_steps_draw_what_eager_ones_draw(micro_batches, implementation):
    pytest.importorskip("cupy" if implementation == "gpu_cupy" else "triton")
    captured, eager = (
        decoder_of(SAMPLE, implementation=implementation, micro_batches=lanes) for lanes in (micro_batches, 1)
    )
    eager.observer = lambda *seen: None
    for ours, theirs in zip(*(decode_life(one, 4, 20) for one in (captured, eager)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-2)


def test_the_device_draws_what_the_host_draws():
    """In all but the few keys that a rounding puts in or out."""
    there, here = (decoder_of(SAMPLE, codes=codes) for codes in ("device", "host"))
    assert [isinstance(one.caches[1], ScannedLayer) for one in (there, here)] == [True, False]
    for one in (there, here):
        one.prefill([tokens(300, 0), tokens(33, 1)])
    for step in range(20):
        for one in (there, here):
            one.step(tokens(2, step).cuda())
        got, want = (one.caches[1].usage().attended.float() for one in (there, here))
        assert want[0].min() > 20
        torch.testing.assert_close(got, want, atol=2.0, rtol=0.02)


@pytest.mark.parametrize(("batch", "micro_batches"), [(1, 1), (4, 2)])
@pytest.mark.parametrize("per", ["group", "head"])
@pytest.mark.parametrize("store_format", ["bfloat16", "int8"])
def test_rows_over_the_link_are_the_hosts(store_format, per, batch, micro_batches):
    """Through seals that move them; relative RMS of all logits, every key drawn."""
    p, how = ALL.model_copy(update={"per": per}), {"store_format": store_format, "micro_batches": micro_batches}
    linked, apart = decoder_of(p, gather="link", **how), decoder_of(p, **how)
    got, want = (torch.cat([part.flatten() for part in decode_life(one, batch, 20)]) for one in (linked, apart))
    assert (got - want).norm() / want.norm() < 5e-3
    rows = linked.caches[1].stores[0].rows
    assert rows.is_cuda
    assert all(store.linked for store in linked.caches[1].stores)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_capture_holds_through_seals(micro_batches):
    decoder = decoder_of(SAMPLE, torch.bfloat16, micro_batches=micro_batches)
    decoder.prefill([tokens(300, 0), tokens(333, 1)])
    pipelines, layer = set(), decoder.caches[1]
    for step in range(100):
        decoder.step(tokens(2, step).cuda())
        pipelines.add(decoder.pipeline)
    assert len(pipelines) == 1
    assert min(store.length for store in layer.stores) > 300 + 80
    sampled = layer.usage().attended.float().mean()
    assert 0.2 * 380 < sampled < 0.4 * 440, "as many as are expected of what is stored now"


def test_steps_allocate_nothing_that_stays():
    decoder = decoder_of(SAMPLE.model_copy(update={"seal_tokens": 200}), torch.bfloat16)
    decoder.prefill([tokens(300, 0), tokens(333, 1)])
    for step in range(20):
        decoder.step(tokens(2, step).cuda())
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for step in range(100):
        decoder.step(tokens(2, step).cuda())
    torch.cuda.synchronize()
    assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) == before
