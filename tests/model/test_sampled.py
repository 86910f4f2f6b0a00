"""Who holds which token, and when it moves."""

from __future__ import annotations

import pytest
import torch

from truffle.kernels.planes import hyperplanes
from truffle.kernels.retrieve.contract import build_segments
from truffle.model.config import DecodeConfig, LshParameters, Probing, StreamingParameters
from truffle.model.methods.dense import DenseLayer
from truffle.model.methods.lsh import LshSelector, segment_codes
from truffle.model.methods.sampled import SampledLayer
from truffle.model.methods.selector import Selection
from truffle.model.methods.streaming import StreamingLayer
from truffle.model.operations import Operations

OPS = Operations(DecodeConfig(), "cpu")
HEADS, KV_HEADS, D = 6, 2, 16


class Everything:
    """A selector that takes every row with certainty: sampling must then equal dense attention."""

    memory_bytes = 0

    def __init__(self) -> None:
        self.lengths: dict[int, int] = {}

    def add(self, request, keys):
        self.lengths[request] = self.lengths.get(request, 0) + keys.shape[1]
        return lambda: None

    question = (0,), torch.uint8

    def ask(self, q, question):
        assert question.shape == (*q.shape[:2], 0)

    def choose(self, question, requests, count, capacity, cached):
        rows = len(requests) * HEADS
        lengths = torch.tensor([self.lengths.get(b, 0) for b in requests], dtype=torch.int32)
        ids = torch.arange(capacity, dtype=torch.int32).expand(rows, -1).contiguous()
        chosen = Selection(ids, count, log_weight=torch.zeros(rows, capacity))
        return lambda: count.copy_(lengths.repeat_interleave(HEADS)), chosen

    def keep(self, requests):
        self.lengths = {new: self.lengths[old] for new, old in enumerate(requests) if old in self.lengths}


def tokens(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = torch.randn(2, KV_HEADS, n, D, generator=torch.Generator().manual_seed(seed))
    return keys, values


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02), (torch.int8, 0.03)])
@pytest.mark.parametrize("prompts", [[1], [3], [12], [13], [40], [1, 70, 12, 29]], ids=str)
def test_attending_every_sealed_key_is_dense_attention(prompts, dtype, error):
    """Unit normal keys and values: a step of eight bits is about 1/50, a bfloat16's last place 1/128 at most."""
    sampled = SampledLayer(4, 8, 16, dtype, Everything(), OPS)
    dense = DenseLayer(OPS)
    parts = [tokens(n, seed) for seed, n in enumerate(prompts)]
    for layer in (sampled, dense):
        layer.prefill([keys for keys, _ in parts], [values for _, values in parts])
    generator = torch.Generator().manual_seed(9)
    for step in range(80):
        q = torch.randn(len(prompts), HEADS, D, generator=generator)
        new = torch.randn(2, len(prompts), KV_HEADS, D, generator=generator)
        torch.testing.assert_close(sampled.decode(q, *new), dense.decode(q, *new), atol=error, rtol=1e-4)
        if step == 50 and len(prompts) > 2:
            sampled.keep([2, 1])
            dense.keep([2, 1])
            prompts = [prompts[2], prompts[1]]
    assert all(store.length >= 48 for store in sampled.stores)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8], ids=str)
def test_what_is_indexed_is_what_is_stored(dtype):
    seen = []

    class Watching(Everything):
        def add(self, request, keys):
            seen.append(keys.float())
            return super().add(request, keys)

    layer = SampledLayer(4, 8, 16, dtype, Watching(), OPS)
    layer.prefill(*([part] for part in tokens(40, 0)))
    for _ in range(20):
        layer.decode(torch.randn(1, HEADS, D), *torch.randn(2, 1, KV_HEADS, D))
    assert len(seen) == 2
    assert torch.equal(torch.cat(seen, dim=1), layer.stores[0].keys.float())


def test_usage_counts_open_and_sampled_keys_outside_sink_and_window():
    layer = SampledLayer(4, 8, 16, torch.float32, Everything(), OPS)
    layer.prefill(*([part] for part in tokens(40, 0)))  # 28 outside, all sealed
    for _ in range(5):
        layer.decode(torch.randn(1, HEADS, D), *torch.randn(2, 1, KV_HEADS, D))
    usage = layer.usage()
    assert usage.cached.tolist() == [33]
    assert usage.attended.tolist() == [[33] * HEADS]
    assert usage.tokens.tolist() == [45]
    assert layer.rows().tolist() == [[45] * KV_HEADS], "exact keys are read too"


def test_streaming_is_attention_over_sink_and_window():
    parameters = StreamingParameters(sink=3, window=7)
    for n in (1, 2, 9, 10, 11, 30):
        layer = StreamingLayer(parameters, OPS)
        keys, values = tokens(n + 25, n)
        layer.prefill([keys[:, :n]], [values[:, :n]])
        for position in range(n, n + 25):
            q = torch.randn(1, HEADS, D)
            out = layer.decode(q, keys[None, :, position], values[None, :, position])
            kept = sorted({*range(min(3, position + 1)), *range(max(0, position - 6), position + 1)})
            logits = q.view(KV_HEADS, -1, D) @ keys[:, kept].transpose(1, 2) * D**-0.5
            want = (logits.softmax(-1) @ values[:, kept]).view(1, HEADS, D)
            torch.testing.assert_close(out, want, atol=1e-5, rtol=1e-4)


def test_decoded_segments_merge_to_what_building_at_once_gives():
    parameters = LshParameters(K=5, L=7, seed=4)
    selector = LshSelector(parameters, layer=2, head_dim=D, ops=OPS)
    keys, _ = tokens(100 + 7 * 16, 5)
    first, rest = keys[:, :100], keys[:, 100:].split(16, dim=1)
    for part in (first, *rest):
        selector.add(0, part)()
    assert [segment.length for segment in selector.tables[0]] == [100, 64, 32, 16]
    assert [segment.start for segment in selector.tables[0]] == [0, 100, 164, 196]
    center = first.mean(dim=1)
    shape, dtype = selector.question
    question = torch.empty(1, HEADS, *shape, dtype=dtype)
    selector.ask(torch.ones(1, HEADS, D), question)
    torch.testing.assert_close(selector.probed(question, range(1)).center[0], center)
    codes = torch.empty(KV_HEADS, 7, keys.shape[1], dtype=torch.uint16)
    planes = torch.from_numpy(hyperplanes(D, 5, 7, 4, 2).copy())
    OPS.hash_codes(keys.contiguous(), planes, center, codes, K=5)
    for got, want in zip(selector.tables[0], build_segments(codes, 5, [100, 64, 32, 16]), strict=True):
        assert torch.equal(got.ids.int(), want.ids.int())
        assert torch.equal(got.offsets, want.offsets)
        part = codes[:, :, got.start : got.start + got.length]
        assert torch.equal(segment_codes(got).int(), part.int())


def test_directed_probing_estimates_dense_attention():
    """200 draws of the planes: the mean output within 4 standard errors and 1% (the ratio's own bias) of dense."""
    keys, values = tokens(300, 6)
    q = torch.randn(1, HEADS, D, generator=torch.Generator().manual_seed(7))
    new = torch.randn(2, 1, KV_HEADS, D, generator=torch.Generator().manual_seed(8))
    dense = DenseLayer(OPS)
    dense.prefill([keys], [values])
    want = dense.decode(q, *new)
    outs = []
    for seed in range(200):
        parameters = LshParameters(K=4, L=20, probing=Probing(kind="directed", amount=4), seed=seed)
        layer = SampledLayer(4, 8, 16, torch.float32, LshSelector(parameters, 0, D, OPS), OPS)
        layer.prefill([keys], [values])
        outs.append(layer.decode(q, *new))
        assert 0 < layer.usage().attended.float().mean() < 288, "neither nothing nor everything is sampled"
    outs = torch.stack(outs)
    allowed = 4 * outs.std(0) / 200**0.5 + 0.01 * want.norm(dim=-1, keepdim=True)
    assert ((outs.mean(0) - want).abs() < allowed).all()


def test_directed_probing_of_a_zero_query_is_finite():
    keys, values = tokens(100, 6)
    parameters = LshParameters(K=6, L=10, probing=Probing(kind="directed", amount=8))
    layer = SampledLayer(4, 8, 16, torch.float32, LshSelector(parameters, 0, D, OPS), OPS)
    layer.prefill([keys], [values])
    assert layer.decode(torch.zeros(1, HEADS, D), *torch.zeros(2, 1, KV_HEADS, D)).isfinite().all()
