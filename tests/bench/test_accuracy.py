"""The accuracy measure against what is known: exact methods err by nothing, worse ones by more."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.model.tiny import SHAPE
from truffle.bench import accuracy
from truffle.bench.dense_run import run_dense
from truffle.model.config import DecodeConfig, DenseParameters, Execution, LshParameters, StreamingParameters
from truffle.model.generate import Sampler
from truffle.model.weights import LoadedModel, random_weights

MODEL = LoadedModel("tiny", SHAPE, random_weights(SHAPE, seed=3), folder=None, end_tokens=frozenset())
EXACT = Execution(store_format="float32")


@pytest.fixture(scope="module")
def run():
    tokens = torch.randint(0, 101, (320,), generator=torch.Generator().manual_seed(0))
    return run_dense(MODEL, tokens, steps=20, threads=1)


def summary(run, parameters) -> dict:
    return accuracy.summarise(accuracy.measure(MODEL, run, DecodeConfig(parameters=parameters, execution=EXACT), 0))


@pytest.mark.parametrize(
    "parameters",
    [
        DenseParameters(),
        StreamingParameters(window=400, dense_layers=()),
        LshParameters(window=400, dense_layers=()),
        LshParameters(K=1, L=64, min_hits=1, dense_layers=(), sink=1, window=2, seal_tokens=4),
    ],
    ids=["dense", "window over all", "window over all, lsh", "every key sampled"],
)
def test_what_attends_everything_errs_by_nothing(run, parameters):
    found = summary(run, parameters)
    assert found["kl"] < 1e-9
    assert found["top1"] == 1.0
    assert found["perplexity_ratio"] == pytest.approx(1.0, abs=1e-5)
    assert found["output_error"] is None or found["output_error"] < 1e-4


def test_a_coarser_store_errs_a_little(run):
    """Every key is sampled: what is left is the store's own error."""
    parameters = LshParameters(K=1, L=64, min_hits=1, dense_layers=(), sink=1, window=2, seal_tokens=4)
    found = {}
    for store_format in ("float32", "bfloat16", "int8"):
        config = DecodeConfig(parameters=parameters, execution=Execution(store_format=store_format))
        found[store_format] = accuracy.summarise(accuracy.measure(MODEL, run, config, 0))["output_error"]
    assert found["float32"] < 0.1 * found["bfloat16"] < 0.1 * found["int8"] < 0.002


def test_more_tables_err_less_and_read_more(run):
    few, many = (
        summary(run, LshParameters(K=6, L=L, dense_layers=(), sink=1, window=2, seal_tokens=4)) for L in (20, 200)
    )
    assert many["output_error"] < few["output_error"]
    assert many["density"] > 2 * few["density"]
    assert few["rows"] >= few["density"], "a group reads at least what each of its heads does"


def test_dense_logits_are_the_models_own(run):
    from truffle.model.llama import Decoder

    decoder = Decoder(SHAPE, MODEL.weights, DecodeConfig())
    whole = torch.cat([run.prompt, run.continuation])
    logits = decoder.prefill([whole])
    torch.testing.assert_close(run.logits[-1:], logits, atol=1e-4, rtol=1e-4)


def test_an_own_continuation_is_what_the_model_would_say():
    tokens = torch.randint(0, 101, (40,), generator=torch.Generator().manual_seed(1))
    run = run_dense(MODEL, tokens, steps=5, threads=1, own=Sampler())
    assert torch.equal(run.prompt, tokens)
    assert run.continuation[1:].tolist() == run.logits[:-1].argmax(-1).tolist()


def test_intervals_hold_the_mean_and_narrow_with_samples():
    generator = np.random.default_rng(0)

    def records(samples: int) -> list[dict]:
        base = {"top1": 1, "output_error": 0.1, "density": 0.1, "rows": 0.1, "loss": 1.0, "dense_loss": 1.0}
        return [
            {"sample": s, "step": t, "kl": float(generator.exponential()), **base}
            for s in range(samples)
            for t in range(30)
        ]

    few, many = accuracy.summarise(records(3)), accuracy.summarise(records(60))
    for found in (few, many):
        assert found["kl_low"] < found["kl"] < found["kl_high"]
    assert many["kl_high"] - many["kl_low"] < 0.5 * (few["kl_high"] - few["kl_low"])
    assert abs(many["kl"] - 1.0) < 0.1


def test_a_context_beyond_the_model_is_refused():
    with pytest.raises(ValueError, match="context: expected at most 8186 tokens before 6 steps, got 8187"):
        accuracy.require_positions(MODEL, 8187, 6)
