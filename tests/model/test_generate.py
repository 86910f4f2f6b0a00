"""Batches: each request as it would be alone, ended at its own end."""

from __future__ import annotations

import pytest
import torch

from tests.model.tiny import SHAPE
from truffle.model.config import DecodeConfig, DenseParameters, LshParameters, ScanParameters, StreamingParameters
from truffle.model.generate import DensityMeter, generate
from truffle.model.llama import Decoder
from truffle.model.weights import random_weights

WEIGHTS = random_weights(SHAPE, seed=3)
METHODS = [
    DenseParameters(),
    StreamingParameters(sink=2, window=8, dense_layers=(0,)),
    LshParameters(K=3, L=12, sink=2, window=8, dense_layers=(0,), seal_tokens=8),
    ScanParameters(budget=0.2, sink=2, window=8, dense_layers=(0,), seal_tokens=8),
]


def decoder(parameters) -> Decoder:
    return Decoder(SHAPE, WEIGHTS, DecodeConfig(parameters=parameters))


def prompts(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, 101, (length,), generator=generator) for length in lengths]


def alone(parameters, prompt: torch.Tensor, count: int, end: frozenset[int] = frozenset()) -> list[int]:
    return [new[0] for new in generate(decoder(parameters), [prompt], count, end)]


@pytest.mark.parametrize("parameters", METHODS, ids=lambda p: p.method)
def test_requests_of_a_batch_do_not_see_each_other(parameters):
    batch = prompts(1, 5, 60, 31)
    together: list[list[int]] = [[], [], [], []]
    for new in generate(decoder(parameters), batch, 40):
        for request, token in new.items():
            together[request].append(token)
    assert together == [alone(parameters, prompt, 40) for prompt in batch]


@pytest.mark.parametrize("parameters", METHODS, ids=lambda p: p.method)
def test_each_request_stops_at_its_own_end(parameters):
    batch = prompts(20, 33, 12)
    full = [alone(parameters, prompt, 30) for prompt in batch]
    end = frozenset([full[1][4]])
    want = [tokens[: tokens.index(full[1][4])] if full[1][4] in tokens else tokens for tokens in full]
    got: list[list[int]] = [[], [], []]
    for new in generate(decoder(parameters), batch, 30, end):
        for request, token in new.items():
            got[request].append(token)
    assert got == want
    assert len({len(tokens) for tokens in got}) > 1, "the requests should end at different steps"


def test_density_counts_what_is_attended_outside_sink_and_window():
    model, meter = decoder(METHODS[2]), DensityMeter()
    model.observer = meter
    list(generate(model, prompts(200), 5))
    assert 0 < meter.density < 1
    streaming = decoder(METHODS[1])
    streaming.observer = nothing = DensityMeter()
    list(generate(streaming, prompts(200), 5))
    assert nothing.density == 0.0


def test_empty_prompts_are_refused():
    with pytest.raises(ValueError, match="at least one token"):
        decoder(DenseParameters()).prefill([torch.empty(0, dtype=torch.int64)])
