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
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.model.test_pipeline import executed, tokens
from tests.model.tiny import SHAPE
from truffle.kernels import registry
from truffle.kernels.checks import ArgumentError
from truffle.model.config import (
    DecodeConfig,
    DenseParameters,
    LshParameters,
    Probing,
    ScanParameters,
    StreamingParameters,
    one_line,
)
from truffle.model.llama import Decoder
from truffle.model.methods.layers import layer_caches
from truffle.model.methods.lsh import LshSelector
from truffle.model.methods.resident import ResidentLayer
from truffle.model.methods.scan import ScanSelector
from truffle.model.methods.scanned import ScannedLayer
from truffle.model.operations import DEVICE_OPS, Operations
from truffle.model.weights import random_weights

THERE = {"retrieve": "gpu_triton", "sparse_attend": "gpu_triton"}
SCANNED_THERE = {"scan_sample": "gpu_triton", "sparse_attend": "gpu_triton"}
CODES_THERE = {"scan_sample": "gpu_triton"}
TINY = SHAPE.model_copy(update={"layers": 2, "heads": 3, "kv_heads": 1})
LSH = LshParameters(K=3, L=4, sink=2, window=4, dense_layers=(0,), seal_tokens=8)
SCAN = ScanParameters(budget=0.5, sink=2, window=4, dense_layers=(0,), seal_tokens=8)
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
only_interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs interpreted, in a process of its own")


def config(parameters=LSH, implementations=THERE, **execution) -> DecodeConfig:
    return executed(DecodeConfig(parameters=parameters, implementations=implementations), **execution)


@pytest.mark.skipif(INTERPRETED, reason="is the interpreted run")
def test_all_of_it_interpreted():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-k", "test_here"]
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
    ("parameters", "implementations", "execution"),
    [
        (LSH, THERE, {}),
        (LSH, THERE, {"micro_batches": 2, "store_format": "int8"}),
        (LSH.model_copy(update={"probing": Probing.named("ball 1"), "L": 1, "min_hits": 1}), THERE, {}),
        (LSH.model_copy(update={"family": "cross_polytope", "coordinates": 2}), THERE, {}),
        (SCAN, SCANNED_THERE, {"micro_batches": 2}),
        (SCAN, CODES_THERE, {}),
        (SCAN, SCANNED_THERE, {"gather": "link", "micro_batches": 2}),
        (SCAN.model_copy(update={"per": "head"}), SCANNED_THERE, {"gather": "link", "store_format": "int8"}),
    ],
    ids=[
        *("one lane", "two lanes of int8", "ball", "cross-polytope", "scan", "scan for rows on the host"),
        *("scan, rows over the link", "scan by head, rows of int8 over the link"),
    ],
)
def test_here_the_same_keys_and_logits_as_on_the_host(parameters, implementations, execution):
    weights = random_weights(TINY, seed=3)
    there = Decoder(TINY, weights, config(parameters, implementations, **execution))
    host = Decoder(TINY, weights, config(parameters, {}, **execution | {"gather": "auto"}))
    assert [type(cache) for cache in there.caches[1:]] == [
        ScannedLayer if implementations is CODES_THERE else ResidentLayer
    ]
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


@only_interpreted
@pytest.mark.parametrize(
    ("parameters", "implementations", "execution"),
    [(LSH, THERE, {"store_format": "int8"}), (SCAN, SCANNED_THERE, {"gather": "link"})],
    ids=["tables", "scan, rows over the link"],
)
@torch.inference_mode()
def test_here_a_replica_does_the_same_in_memory_of_its_own(parameters, implementations, execution):
    decoder = Decoder(TINY, random_weights(TINY, seed=3), config(parameters, implementations, **execution))
    decoder.prefill([tokens(20, 0)])
    layer = decoder.caches[1]
    replica, asked = layer.replica(), (torch.randn(1, 3, 16), *torch.randn(2, 1, 1, 16))
    for one in (replica, layer):
        one.make_room()
        one.count_token()
    first = layer.attend(*asked)
    for memory in _memory(layer):
        memory.zero_()
    assert torch.equal(replica.attend(*asked), first)
    assert not torch.equal(layer.attend(*asked), first)
    assert replica.memory_bytes == layer.memory_bytes


def _memory(layer: ResidentLayer) -> list[torch.Tensor]:
    """What a layer keeps of its keys."""
    selector = layer.selector
    if isinstance(selector, LshSelector):
        index = [part for segments in selector.tables.values() for s in segments for part in (s.offsets, s.ids)]
    else:
        assert isinstance(selector, ScanSelector)
        index = [part for codes in selector.codes.values() for part in (codes.words, codes.scales)]
    return [*(store.rows for store in layer.stores), *index]


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


class OneDevice(TorchDispatchMode):
    """Lets operations on tensors of the meta device pass, which hold no numbers that anyone could ask for."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        assert {part.device.type for part in tree_leaves((args, kwargs, out)) if hasattr(part, "device")} == {"meta"}
        self.seen = function
        return out


@torch.inference_mode()
def test_a_step_neither_copies_between_devices_nor_asks_for_a_number(monkeypatch):
    """What a capture would refuse. The kernels are left out; the step before has put in place what stays."""
    monkeypatch.setattr(registry, "_has_cuda", lambda: True)
    pytest.importorskip("triton")
    named = dict.fromkeys(DEVICE_OPS, "gpu_triton") | {"build_tables": "reference"}
    ops = Operations(config(implementations=THERE | named), "cuda")
    ops.home = ops.team["device"] = ops.rows_team["device"] = torch.device("meta")
    ops.courier.carry = lambda source, target: target.copy_(source)
    called = []
    for op in ops.names:
        monkeypatch.setattr(ops, op, lambda *args, op=op, **kwargs: called.append(op))
    ops.repeated = lambda op, *args, **kwargs: lambda: called.append(op)
    (layer,) = layer_caches(TINY, config(), ops)[1:]
    prompts = [torch.empty(1, n, 16, device="meta") for n in (50, 40)]
    layer.prefill(prompts, prompts)
    q, new = torch.empty(2, 3, 16, device="meta"), torch.empty(2, 1, 16, device="meta")
    layer.decode(q, new, new)
    layer.make_room()
    called.clear()
    with OneDevice() as watch:
        assert layer.attend(q, new, new).shape == q.shape
    assert watch.seen is not None
    assert called == ["dense_attend", "hash_codes", "retrieve", "sparse_attend", "merge_states"]
