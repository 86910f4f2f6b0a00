"""What the project promises of sampling on SmolLM2."""

from __future__ import annotations

import pytest
import torch

from truffle.bench import accuracy, text
from truffle.bench.dense_run import run_dense
from truffle.model.config import DecodeConfig, LshParameters
from truffle.model.generate import Sampler
from truffle.model.weights import load

THREADS = 2


@pytest.fixture(scope="module")
def model():
    return load("smollm2")


def test_centring_keeps_the_error_small_at_4k(model):
    """Output error under 0.2 at density under 0.12; several times worse without centring."""
    tokens = text.windows(model.tokenizer(), 1, 4096 + 8)[0]
    run = run_dense(model, tokens, steps=8, threads=THREADS)
    found = {}
    for centred in (True, False):
        config = DecodeConfig(parameters=LshParameters(K=8, L=75, centred=centred))
        found[centred] = accuracy.summarise(accuracy.measure(model, run, config, 0))
    assert found[True]["output_error"] < 0.2
    assert found[True]["density"] < 0.12
    assert found[False]["output_error"] > 2.5 * found[True]["output_error"]


@pytest.mark.slow
@pytest.mark.parametrize("seal_tokens", [1024, 64])
def test_long_generation_does_not_decay(model, seal_tokens):
    """KL of the last 100 of 400 tokens at most twice that of the first, also when what is decoded gets sampled."""
    torch.set_num_threads(THREADS)
    prompt = text.windows(model.tokenizer(), 1, 4000)[0]
    run = run_dense(model, prompt, steps=400, threads=THREADS, own=Sampler(temperature=0.7))
    config = DecodeConfig(parameters=LshParameters(K=8, L=75, seal_tokens=seal_tokens))
    kl = [step["kl"] for step in accuracy.measure(model, run, config, 0)]
    assert sum(kl[-100:]) <= 2 * sum(kl[:100])
