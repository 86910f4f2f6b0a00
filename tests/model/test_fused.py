"""Retrieving and attending in one operation: the same tokens' probabilities, and the same account of what was read."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from tests.model.tiny import SHAPE
from truffle.model.config import DecodeConfig, LshParameters, Probing, one_line
from truffle.model.llama import Decoder
from truffle.model.methods.fused import FusedLayer
from truffle.model.weights import random_weights

WEIGHTS = random_weights(SHAPE, seed=3)
FUSED, SEPARATE = {"retrieve_attend": "auto"}, {"retrieve": "reference", "sparse_attend": "reference"}


def decoder(name: str, implementations: dict[str, str]) -> Decoder:
    across = name == "cross_polytope"
    family = {"family": name, "coordinates": 4} if across else {"probing": Probing.named(name)}
    parameters = LshParameters(K=4, L=12, sink=2, window=8, dense_layers=(0,), seal_tokens=8, **family)
    return Decoder(SHAPE, WEIGHTS, DecodeConfig(parameters=parameters, implementations=implementations))


@pytest.mark.parametrize("name", ["none", "ball 1", "directed 3", "cross_polytope"])
def test_both_ways_give_the_same_logits_and_read_the_same_keys(name):
    both = decoder(name, SEPARATE), decoder(name, FUSED)
    assert [isinstance(layer, FusedLayer) for layer in both[1].caches] == [False, True, True]
    prompts = [torch.arange(60) % 101, torch.arange(5), torch.arange(31) * 7 % 101]
    tokens, _ = (one.prefill(prompts).argmax(-1) for one in both)
    left_out = 0
    for _ in range(24):
        logits = [one.step(tokens) for one in both]
        torch.testing.assert_close(logits[1], logits[0], atol=1e-4, rtol=1e-4)
        tokens = logits[0].argmax(-1)
        for apart, fused in zip(both[0].caches[1:], both[1].caches[1:], strict=True):
            assert torch.equal(fused.usage().attended, apart.usage().attended)
            assert torch.equal(fused.rows(), apart.rows())
            left_out += int((fused.usage().cached[:, None] - fused.usage().attended).sum())
    assert left_out > 0


def test_the_fused_operation_is_the_one_that_runs(monkeypatch):
    one = decoder("none", FUSED)
    one.prefill([torch.arange(60)])
    layer = one.caches[1]
    monkeypatch.setattr(layer._ops, "sparse_attend", None)
    monkeypatch.setattr(layer._ops, "retrieve", None)
    one.step(torch.tensor([1]))
    monkeypatch.undo()
    assert layer.rows().min() > 0, "ids are found when they are asked for"


@pytest.mark.parametrize("apart", [("retrieve",), ("sparse_attend",), ("retrieve", "sparse_attend")])
def test_a_config_names_one_way(apart):
    with pytest.raises(ValidationError) as caught:
        DecodeConfig(implementations=FUSED | dict.fromkeys(apart, "reference"))
    assert one_line(caught.value) == (
        "implementations: expected either retrieve_attend or retrieve and sparse_attend, "
        f"got retrieve_attend and {' and '.join(apart)}"
    )


@pytest.mark.parametrize("name", ["none", "ball 1", "directed 64"])
def test_probing_is_named_as_it_is_read(name):
    assert Probing.named(name).name == name
