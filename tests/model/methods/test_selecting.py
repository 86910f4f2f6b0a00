"""The layer of the reference methods: who is attended, and that nobody notices the batch."""

from __future__ import annotations

import pytest
import torch

from tests.model.methods.views import generator
from tests.model.tiny import SHAPE
from truffle.model.config import DecodeConfig, Execution, ModelShape
from truffle.model.generate import DensityMeter, generate
from truffle.model.llama import Decoder
from truffle.model.methods.dense import DenseLayer
from truffle.model.methods.layers import layer_caches
from truffle.model.methods.selecting import SelectingLayer
from truffle.model.operations import Operations
from truffle.model.selecting_parameters import (
    OracleSamplingParameters,
    OracleTopKParameters,
    OracleTopPParameters,
    PriorityParameters,
    QuestParameters,
    SelectingParameters,
    UniformParameters,
    VAttentionParameters,
)
from truffle.model.weights import random_weights

WEIGHTS = random_weights(SHAPE, seed=3)
HEADS, KV_HEADS, D = 6, 2, 16
PLACES = {"sink": 2, "window": 8, "dense_layers": (0,)}
FEW = [
    OracleTopKParameters(budget=0.2, **PLACES),
    OracleTopPParameters(mass=0.8, **PLACES),
    QuestParameters(budget=0.3, page_size=4, **PLACES),
    OracleSamplingParameters(budget=0.3, **PLACES),
    OracleSamplingParameters(budget=0.3, draws="systematic", **PLACES),
    UniformParameters(budget=0.3, **PLACES),
    PriorityParameters(budget=9, **PLACES),
    VAttentionParameters(**PLACES),
    VAttentionParameters(heavy="quest", page_size=4, heavy_budget=0.2, bound="hoeffding", epsilon=0.5, **PLACES),
    VAttentionParameters(heavy="lsh", K=4, L=30, heavy_budget=0.2, check="both", epsilon=0.5, **PLACES),
]
ALL = [
    OracleTopKParameters(budget=1.0, **PLACES),
    OracleTopPParameters(mass=1.0, **PLACES),
    QuestParameters(budget=1.0, page_size=4, **PLACES),
    UniformParameters(budget=1.0, **PLACES),
    PriorityParameters(budget=1000, **PLACES),
    VAttentionParameters(base_budget=1.0, **PLACES),
    VAttentionParameters(heavy_budget=1.0, heavy="quest", bound="bernstein", **PLACES),
    VAttentionParameters(heavy="lsh", K=4, L=30, epsilon=1e-9, **PLACES),
]


def name(p: SelectingParameters) -> str:
    return f"{p.method} {getattr(p, 'draws', getattr(p, 'heavy', ''))}".strip()


def layer_of(p: SelectingParameters) -> SelectingLayer:
    config = DecodeConfig(parameters=p)
    found = layer_caches(SHAPE, config, Operations(config, "cpu"))[1]
    assert isinstance(found, SelectingLayer)
    return found


def prompt(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = torch.randn(2, KV_HEADS, n, D, generator=generator(n))
    return keys, values


def fill(layer, lengths: list[int], admit: bool = False) -> None:
    pairs = [prompt(n) for n in lengths]
    (layer.admit if admit else layer.prefill)([keys for keys, _ in pairs], [values for _, values in pairs])


def step_of(request: int, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q [1, H, d], keys and values [1, Hkv, d] that a request brings at a step."""
    draws = generator(1000 * request + step)
    q = torch.randn(1, HEADS, D, generator=draws)
    keys, values = torch.randn(2, 1, KV_HEADS, D, generator=draws)
    return q, keys, values


@pytest.mark.parametrize("p", FEW, ids=name)
def test_requests_of_a_batch_are_attended_as_if_alone(p):
    """To the last bit, while requests leave and join."""
    lengths = {0: 60, 1: 5, 2: 33, 3: 47, 4: 1}
    alone = {request: layer_of(p) for request in lengths}
    for request, layer in alone.items():
        fill(layer, [lengths[request]])
    batch, live = layer_of(p), [0, 1, 2]
    fill(batch, [lengths[request] for request in live])

    def steps(first: int, last: int) -> None:
        for step in range(first, last):
            brought = [step_of(request, step) for request in live]
            out = batch.decode(*(torch.cat(parts) for parts in zip(*brought, strict=True)))
            want = torch.cat([alone[request].decode(*own) for request, own in zip(live, brought, strict=True)])
            torch.testing.assert_close(out, want, atol=1e-6, rtol=1e-5)
        for row, request in enumerate(live):
            assert torch.equal(batch.chosen(row).count, alone[request].chosen(0).count)
            assert torch.equal(batch.usage().attended[row], alone[request].usage().attended[0])

    steps(0, 8)
    batch.keep([2, 0])
    live = [2, 0]
    steps(8, 10)
    fill(batch, [lengths[3], lengths[4]], admit=True)
    live += [3, 4]
    steps(10, 20)


@pytest.mark.parametrize("p", ALL, ids=name)
def test_the_whole_budget_is_dense_attention(p):
    layer, dense = layer_of(p), DenseLayer(Operations(DecodeConfig(), "cpu"))
    for each in (layer, dense):
        fill(each, [70, 1, 12])
    for step in range(20):
        brought = [torch.cat(parts) for parts in zip(*(step_of(request, step) for request in range(3)), strict=True)]
        torch.testing.assert_close(layer.decode(*brought), dense.decode(*brought), atol=1e-5, rtol=1e-4)
    usage = layer.usage()
    assert torch.equal(usage.attended, usage.cached[:, None].expand(3, HEADS))
    assert usage.cached.tolist() == [80, 11, 22]
    assert torch.equal(layer.rows(), dense.rows())


def test_many_draws_come_near_dense_attention():
    """40,000 systematic draws of 60 keys: each count is off by less than 1, so the output by 60 / 40,000 of |v|."""
    p = OracleSamplingParameters(budget=40_000, draws="systematic", **PLACES)
    layer, dense = layer_of(p), DenseLayer(Operations(DecodeConfig(), "cpu"))
    for each in (layer, dense):
        fill(each, [70])
    torch.testing.assert_close(layer.decode(*step_of(0, 0)), dense.decode(*step_of(0, 0)), atol=5e-3, rtol=0)


@pytest.mark.parametrize("p", ALL, ids=name)
def test_a_decoder_with_the_whole_budget_decodes_as_a_dense_one(p):
    prompts = [torch.randint(0, 101, (n,), generator=generator(n)) for n in (60, 1, 25)]
    found, dense = Decoder(SHAPE, WEIGHTS, DecodeConfig(parameters=p)), Decoder(SHAPE, WEIGHTS, DecodeConfig())
    torch.testing.assert_close(found.prefill(prompts), dense.prefill(prompts))
    for token in range(6):
        tokens = torch.tensor([token, 50, 100 - token])
        torch.testing.assert_close(found.step(tokens), dense.step(tokens), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("p", FEW, ids=name)
def test_every_method_generates_and_tells_what_it_reads(p):
    config = DecodeConfig(parameters=p, execution=Execution(micro_batches=2))  # half the batch at a time
    decoder, meter = Decoder(SHAPE, WEIGHTS, config), DensityMeter()
    decoder.observer = meter
    prompts = [torch.randint(0, 101, (n,), generator=generator(n)) for n in (80, 3, 41)]
    produced = list(generate(decoder, prompts, 8))
    assert [len(new) for new in produced] == [3] * 8
    if isinstance(p, VAttentionParameters) and p.bound == "hoeffding":
        assert meter.density == 1, "of so few keys a bound that always holds leaves none out"
    else:
        assert 0 < meter.density < 1
    layer = decoder.caches[1]
    assert isinstance(layer, SelectingLayer)
    for request in range(3):
        chosen, errors = layer.chosen(request), layer.errors(request)
        assert bool(((chosen.p > 0) | (chosen.count == 0)).all())
        if errors is not None:
            assert errors.output.shape == chosen.keys.shape == (KV_HEADS, HEADS // KV_HEADS)
            assert bool((errors.output >= 0).all() and (errors.denominator >= 0).all())
    usage, rows = layer.usage(), layer.rows()
    attended = usage.attended.view(3, KV_HEADS, -1)
    exact = usage.tokens - usage.cached
    assert bool((rows >= attended.amax(-1) + exact[:, None]).all() and (rows <= usage.tokens[:, None]).all())
    again = Decoder(SHAPE, WEIGHTS, config)
    assert list(generate(again, prompts, 8)) == produced, "runs repeat"


def test_seeds_layers_and_steps_draw_differently():
    counts = []
    for seed, index in ((0, 1), (1, 1), (0, 2)):
        config = DecodeConfig(parameters=UniformParameters(seed=seed, budget=9, **PLACES))
        layer = layer_caches(SHAPE, config, Operations(config, "cpu"))[index]
        fill(layer, [70])
        for step in range(2):
            layer.decode(*step_of(0, step))
            counts.append(layer.chosen(0).count[..., :60])
    for first in range(len(counts)):
        for second in range(first):
            assert not torch.equal(counts[first], counts[second])


def test_only_what_decoded_since_the_last_change_can_be_asked_for():
    layer = layer_of(FEW[0])
    fill(layer, [40])
    with pytest.raises(ValueError, match="request: expected one that has decoded"):
        layer.chosen(0)


def test_dense_layers_stay_dense():
    shape = ModelShape(**SHAPE.model_dump() | {"layers": 3})
    config = DecodeConfig(parameters=QuestParameters(dense_layers=(0, 2)))
    kinds = [type(cache) for cache in layer_caches(shape, config, Operations(config, "cpu"))]
    assert kinds == [DenseLayer, SelectingLayer, DenseLayer]
