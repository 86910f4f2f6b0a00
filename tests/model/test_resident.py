"""Stores and tables on the model's own device: what the host's give, and nothing that the host has to do in a step.

Without a GPU the kernels are interpreted, in a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tests.model.test_pipeline import WIDE, certain, decode_life, executed, on_cuda, tokens
from tests.model.tiny import SHAPE
from truffle.kernels import registry
from truffle.kernels.checks import ArgumentError
from truffle.model.config import DecodeConfig, DenseParameters, LshParameters, Probing, StreamingParameters, one_line
from truffle.model.llama import Decoder
from truffle.model.methods.lsh import LshSelector
from truffle.model.methods.resident import ResidentLayer
from truffle.model.operations import Operations
from truffle.model.weights import Weights, random_weights

THERE = {"retrieve": "gpu_triton", "sparse_attend": "gpu_triton"}
TINY = SHAPE.model_copy(update={"layers": 2, "heads": 3, "kv_heads": 1})
LSH = LshParameters(K=3, L=4, sink=2, window=4, dense_layers=(0,), seal_tokens=8)
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
only_interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs interpreted, in a process of its own")


def config(parameters=LSH, implementations=THERE, **execution) -> DecodeConfig:
    return executed(DecodeConfig(parameters=parameters, implementations=implementations), **execution)


@pytest.mark.skipif(INTERPRETED, reason="is the interpreted run")
def test_all_of_it_interpreted():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-k", "test_here", "-m", "not gpu"]
    hidden = {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    root = Path(__file__).parents[2]
    run = subprocess.run(command, cwd=root, env=os.environ | hidden, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert " skipped" not in run.stdout, run.stdout[-3000:]


def life(decoder: Decoder):
    """Logits and accounts of a batch that seals, loses a request and admits another."""
    yield decoder.prefill([tokens(30, 0), tokens(3, 1), tokens(21, 2)])
    for step in range(10):
        logits = decoder.step(tokens(3, step))
        yield logits, decoder.caches[1].usage().attended, decoder.caches[1].rows()
    decoder.keep([2, 0])
    yield decoder.admit([tokens(17, 3)])
    for step in range(3):
        logits = decoder.step(tokens(3, step))
        yield logits, decoder.caches[1].usage().attended, decoder.caches[1].rows()


@only_interpreted
@pytest.mark.parametrize(
    ("parameters", "execution"),
    [
        (LSH, {}),
        (LSH, {"micro_batches": 2, "store_format": "int8"}),
        (LSH.model_copy(update={"probing": Probing.named("ball 1"), "L": 1, "min_hits": 1}), {}),
    ],
    ids=["one lane", "two lanes of int8", "ball"],
)
def test_here_the_same_keys_and_logits_as_on_the_host(parameters, execution):
    weights = random_weights(TINY, seed=3)
    there = Decoder(TINY, weights, config(parameters, **execution))
    host = Decoder(TINY, weights, config(parameters, {}, **execution))
    assert [type(cache) for cache in there.caches[1:]] == [ResidentLayer]
    sampled = 0
    for ours, theirs in zip(life(there), life(host), strict=True):
        (got, *accounts), (want, *expected) = (one if isinstance(one, tuple) else (one,) for one in (ours, theirs))
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
        assert all(torch.equal(*pair) for pair in zip(accounts, expected, strict=True))
        sampled += sum(int(attended.sum()) for attended in accounts[:1])
    assert sampled > 0
    assert [store.length for store in there.caches[1].stores] == [23, 32, 11], "sealed in steps, at prefill, admitted"


@only_interpreted
def test_here_a_seal_renews_the_pipeline_and_nothing_else_does():
    decoder = Decoder(TINY, random_weights(TINY, seed=3), config())
    decoder.prefill([tokens(20, 0)])
    layer, renewed = decoder.caches[1], []
    for step in range(20):
        before, stored = decoder.pipeline, layer.stores[0].length
        decoder.step(tokens(1, step))
        renewed.append(decoder.pipeline is not before)
        assert renewed[-1] == (step == 0 or layer.stores[0].length > stored)
    assert sum(renewed) == 3
    assert not decoder.pipeline.lanes[0].exchanges


@only_interpreted
@torch.inference_mode()
def test_here_a_twin_seals_on_its_own():
    decoder = Decoder(TINY, random_weights(TINY, seed=3), config())
    decoder.prefill([tokens(20, 0)])
    layer = decoder.caches[1]
    twin, length, memory = layer.twin(), layer.stores[0].length, layer.memory_bytes
    for _ in range(9):
        twin.decode(torch.randn(1, 3, 16), *torch.randn(2, 1, 1, 16))
    assert (layer.stores[0].length, layer.memory_bytes) == (length, memory)
    assert twin.stores[0].length == length + 8
    assert twin.memory_bytes > memory


@pytest.mark.parametrize("parameters", [LSH, DenseParameters(), StreamingParameters()], ids=lambda p: p.method)
@pytest.mark.parametrize("other", [{}, {"sparse_attend": "auto"}, {"sparse_attend": "cpu_native"}], ids=str)
def test_one_of_the_two_alone_is_refused(parameters, other):
    with pytest.raises(ValidationError) as caught:
        DecodeConfig(parameters=parameters, implementations={"retrieve": "gpu_triton"} | other)
    assert one_line(caught.value) == (
        "implementations: expected both of retrieve and sparse_attend on a GPU, "
        f"got retrieve=gpu_triton and sparse_attend={other.get('sparse_attend', 'auto')}"
    )


def test_directed_probing_there_is_refused():
    directed = LSH.model_copy(update={"probing": Probing.named("directed 3")})
    with pytest.raises(ValidationError) as caught:
        DecodeConfig(parameters=directed, implementations=THERE)
    assert one_line(caught.value) == (
        "implementations: expected the CPU's for directed probing, got retrieve=gpu_triton and sparse_attend=gpu_triton"
    )


@pytest.mark.skipif(INTERPRETED, reason="an interpreted kernel takes what is not on a GPU")
def test_a_model_that_is_not_on_a_gpu_is_refused(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(registry, "_has_cuda", lambda: True)
    with pytest.raises(ArgumentError, match="expected one of retrieve for cpu tensors, got gpu_triton, for cuda"):
        Operations(config(), "cpu")
    with pytest.raises(ArgumentError, match="expected one of build_tables for cuda tensors, got cpu_native, for cpu"):
        Operations(config(implementations=THERE | {"build_tables": "cpu_native"}), "cuda")


@pytest.mark.gpu
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


@pytest.mark.gpu
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


@pytest.mark.gpu
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


@pytest.mark.gpu
def test_captured_steps_equal_eager_ones():
    weights: Weights = on_cuda(random_weights(WIDE, seed=3), torch.bfloat16)
    captured, eager = (Decoder(WIDE, weights, certain(config())) for _ in range(2))
    eager.observer = lambda *seen: None
    for ours, theirs in zip(*(decode_life(one, 4, 20) for one in (captured, eager)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-2)
