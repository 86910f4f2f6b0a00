"""What a layer draws in a step, on the host or with a GPU's own random numbers: right in the mean over 4,000 draws.

A query that is repeated draws as often in one step. Means must be within 4.5 of their own standard errors.
"""

from __future__ import annotations

import pytest
import torch

from tests.model.methods.test_selecting import KV_HEADS, PLACES, D, name, prompt
from tests.model.methods.views import SIGMAS, deviations_off, generator, unbiased
from tests.model.tiny import SHAPE
from truffle.model.config import DecodeConfig
from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.selector import View, view_of
from truffle.model.methods.layers import layer_caches
from truffle.model.methods.selecting import SelectingLayer
from truffle.model.operations import Operations
from truffle.model.selecting_parameters import (
    OracleSamplingParameters,
    SelectingParameters,
    UniformParameters,
    VAttentionParameters,
)

DRAWS, CACHED, BUDGET = 4000, 120, 20
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
ENOUGH = {"heavy_budget": 8, "base_budget": BUDGET - 8, "epsilon": 0.99, "delta": 0.99, **PLACES}
FIXED = [
    OracleSamplingParameters(budget=BUDGET, **PLACES),
    OracleSamplingParameters(budget=BUDGET, draws="systematic", **PLACES),
    UniformParameters(budget=BUDGET, **PLACES),
    VAttentionParameters(**ENOUGH),
    VAttentionParameters(heavy="quest", page_size=4, **ENOUGH),
    VAttentionParameters(heavy="lsh", K=4, L=30, **ENOUGH),
]
CHECKS = ("denominator", "both")


def step(p: SelectingParameters, device: str) -> tuple[View, Chosen, torch.Tensor]:
    """What one step saw and drew, moved to the host, and its output [Hkv, DRAWS, d]."""
    layer = layer_caches(SHAPE, config := DecodeConfig(parameters=p), Operations(config, device))[1]
    assert isinstance(layer, SelectingLayer)
    keys, values = prompt(CACHED)
    layer.prefill([keys.to(device)], [values.to(device)])
    one, key, value = torch.randn(3, KV_HEADS, 1, D, generator=generator())
    q = one.expand(-1, DRAWS, -1).flatten(0, 1)
    out = layer.decode(*(part.to(device) for part in (q[None], key[None, :, 0], value[None, :, 0])))
    chosen = layer.chosen(0)
    view = view_of(q, torch.cat([keys, key], 1), torch.cat([values, value], 1), p.sink, p.window)
    return view, Chosen(chosen.count.cpu(), chosen.p.cpu()), out[0].cpu().unflatten(0, (KV_HEADS, -1))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("p", FIXED, ids=name)
def test_sums_over_a_fixed_number_of_draws_are_unbiased(p, device):
    view, chosen, out = step(p, device)
    assert bool((chosen.count.sum(-1) == BUDGET).all())
    unbiased(view, chosen)
    torch.testing.assert_close(out, view.attend(chosen), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("check", CHECKS)
def test_a_sample_that_is_extended_is_as_the_hosts(check, device):
    """Not unbiased, as its size depends on what it saw: keys read and outputs are those of the host in the mean."""
    p, host = (VAttentionParameters(check=check, epsilon=0.2, seed=seed, **PLACES) for seed in (0, 1))
    (_, chosen, out), (_, expected, want) = step(p, device), step(host, "cpu")
    assert float(chosen.keys.double().std()) > 0, "some samples should be extended"
    for head in range(KV_HEADS):
        assert float(deviations_off(chosen.keys[head] - expected.keys[head], 0.0)) < SIGMAS
        assert float(deviations_off(out[head] - want[head], 0.0).max()) < SIGMAS
