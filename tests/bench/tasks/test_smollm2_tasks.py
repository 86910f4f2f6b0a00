"""What SmolLM2 itself can do, so that a method has something to lose."""

from __future__ import annotations

import pytest
import torch

from truffle.bench.tasks.registry import TASKS
from truffle.bench.tasks.sample import encoder, make
from truffle.bench.tasks.scores import string_match_all
from truffle.model.config import DecodeConfig, Execution
from truffle.model.generate import generate
from truffle.model.llama import Decoder
from truffle.model.weights import load

THREADS, SAMPLES = 2, 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["niah_single_1", "niah_single_2", "niah_single_3", "niah_multivalue", "vt"])
def test_the_dense_model_scores_above_50_at_1k(name):
    torch.set_num_threads(THREADS)
    model = load("smollm2")
    tokenizer, scores = model.tokenizer(), []
    for index in range(SAMPLES):
        sample = make(TASKS[name], encoder(tokenizer), 1024, 0, index)
        decoder = Decoder(model.shape, model.weights, DecodeConfig(execution=Execution(threads=THREADS)))
        produced = generate(decoder, [sample.prompt_ids], sample.tokens_to_generate, model.end_tokens)
        text = tokenizer.decode([new[0] for new in produced])
        scores.append(string_match_all(text, sample.answers))
    assert sum(scores) / SAMPLES > 50
