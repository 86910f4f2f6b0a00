"""What a decoder can say of its own error, head by head."""

from __future__ import annotations

import pytest
import torch

from tests.model.test_generate import decoder, prompts
from truffle.model.__main__ import main
from truffle.model.config import (
    DecodeConfig,
    DenseParameters,
    Execution,
    LshParameters,
    OracleTopKParameters,
    ScanParameters,
    StreamingParameters,
    UniformParameters,
    VAttentionParameters,
)
from truffle.model.error_meter import ErrorMeter, tell_errors
from truffle.model.generate import DensityMeter, generate
from truffle.model.head_meter import HeadMeter
from truffle.model.llama import Decoder

EXACT = {"sink": 2, "window": 8, "dense_layers": (0,)}
LSH = LshParameters(K=3, L=12, seal_tokens=8, **EXACT)
SCAN = ScanParameters(budget=0.2, seal_tokens=8, **EXACT)
STEPS, HEADS, LAYERS = 6, 6, 2


def watched(parameters, lengths=(200,)) -> ErrorMeter:
    model = decoder(parameters)
    model.observer = meter = tell_errors(model)
    list(generate(model, prompts(*lengths), STEPS + 1))
    return meter


@pytest.mark.parametrize(
    "parameters", [LSH, SCAN, VAttentionParameters(**EXACT), UniformParameters(**EXACT)], ids=lambda p: p.method
)
def test_every_head_of_every_request_layer_and_step_is_told(parameters):
    meter = watched(parameters, (200, 90))
    assert (meter.told, meter.untold) == (STEPS * HEADS * LAYERS * 2, 0)
    found = meter.summary()
    for name in ("output", "denominator"):
        assert 0 < found[f"{name}_error_mean"] < found[f"{name}_error_p95"] < 10


def test_errors_by_head_average_to_those_of_all():
    meter = watched(VAttentionParameters(**EXACT), (200, 90))
    found = meter.by_layer()
    assert list(found) == [1, 2]
    assert {len(heads) for heads in found.values()} == {HEADS}
    told = [error for heads in found.values() for error in heads]
    assert sum(told) / len(told) == pytest.approx(meter.summary()["output_error_mean"], rel=1e-5)
    assert len({round(error, 6) for error in told}) > HEADS


@pytest.mark.parametrize("parameters", [UniformParameters(budget=20, **EXACT), VAttentionParameters(**EXACT)],
                         ids=lambda p: p.method)  # fmt: skip
def test_keys_are_counted_head_by_head(parameters):
    model, total = decoder(parameters), [0, 0]
    heads, density = HeadMeter(), DensityMeter()

    def observe(index, cache, *seen):
        heads(index, cache, *seen)
        density(index, cache, *seen)
        if index:
            total[index - 1] += int(cache.usage().attended.sum())

    model.observer = observe
    list(generate(model, prompts(200, 90), STEPS + 1))
    found = heads.by_layer()
    assert list(found) == [1, 2]
    for layer, keys in found.items():
        assert sum(keys) * STEPS * 2 == pytest.approx(total[layer - 1])
    if parameters.method == "uniform":
        assert heads.line() == "20 to 20 keys a head (layer 2, head 5), 20 in the median"


def test_exact_attention_has_no_budget():
    model, heads = decoder(DenseParameters()), HeadMeter()
    model.observer = heads
    list(generate(model, prompts(30), 3))
    assert heads.line() is None


@pytest.mark.parametrize("parameters", [OracleTopKParameters(**EXACT), StreamingParameters(**EXACT)],
                         ids=lambda p: p.method)  # fmt: skip
def test_who_cannot_tell_is_counted_so(parameters):
    meter = watched(parameters)
    assert (meter.told, meter.untold) == (0, STEPS * HEADS * LAYERS)
    assert meter.spread("output") is None
    assert meter.summary()["output_error_mean"] is None


def test_nothing_is_said_where_nothing_is_off():
    for parameters in (DenseParameters(), UniformParameters(budget=1.0, **EXACT), LSH):
        meter = watched(parameters, (5,))  # all within sink and window
        assert (meter.told, meter.untold) == (0, 0)


def test_a_sample_too_small_to_tell_is_counted_so():
    meter = watched(UniformParameters(budget=1, **EXACT))
    assert meter.told == 0
    assert meter.untold == STEPS * HEADS * LAYERS


@pytest.mark.parametrize("p", [LSH, SCAN], ids=lambda p: p.method)
def test_who_tells_draws_what_the_fast_layers_draw(p):
    fast, telling = (
        Decoder(decoder(p).shape, decoder(p).weights,
                DecodeConfig(parameters=p, execution=Execution(store_format="float32")))
        for _ in range(2)
    )  # fmt: skip
    telling.observer = tell_errors(telling)
    for model in (fast, telling):
        model.prefill(prompts(150, 60))
    for token in torch.randint(0, 101, (12, 2), generator=torch.Generator().manual_seed(1)):
        torch.testing.assert_close(telling.step(token), fast.step(token), atol=1e-3, rtol=1e-3)
        for layer in range(1, 3):
            assert torch.equal(telling.caches[layer].usage().attended, fast.caches[layer].usage().attended)


@pytest.mark.parametrize(
    ("method", "said"),
    [(["uniform"], "estimated error of a head's output"), (["quest"], "a sample of quest does not tell"),
     (["scan", "--budget", "0.2", "--seal-tokens", "8"], "estimated error of a head's output"),
     (["dense"], "every key was attended")],
    ids=["uniform", "quest", "scan", "dense"],
)  # fmt: skip
def test_generate_says_how_far_it_is_off_or_that_it_cannot(method, said, capsys):
    prompt = "The old lighthouse keeper opened the letter. " * 12
    assert main(["generate", "--prompt", prompt, "--max-new-tokens", "3", "--errors", "--method", *method]) == 0
    assert said in capsys.readouterr().out
