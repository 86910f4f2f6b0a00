"""A scan that raises its sample until it is enough: what holds exactly, and what on average of many draws.

Rates are over DRAWS independent draws of one view, by fixed seeds. For a true rate of r the share observed is off by
more than 3 sqrt(r (1 - r) / DRAWS) in one of 370 cases.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from tests.model.methods.views import SIGMAS, D, deviations_off, exact, generator, made_view
from tests.model.test_generate import decoder, prompts
from truffle.kernels.checks import ArgumentError
from truffle.model.config import DecodeConfig, ScanParameters, one_line
from truffle.model.generate import generate
from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.raised import least_raise, raise_for
from truffle.model.methods.choosing.scan import Scanned
from truffle.model.methods.choosing.selector import View
from truffle.model.methods.scan import ScanSelector
from truffle.model.methods.selecting import SelectingLayer
from truffle.model.operations import Operations

OPS = Operations(DecodeConfig(parameters=ScanParameters()), "cpu")
N, REPEATS, SEEDS = 400, 20, 60
DRAWS = REPEATS * SEEDS


def scanned(view: View, keys: torch.Tensor | None = None, **settings) -> Scanned:
    given = {"per": "head", "seal_tokens": 1, "budget": 40} | settings
    method = Scanned(ScanParameters(**given), 0, D, OPS)
    method.add(view.keys if keys is None else keys)
    return method


def chosen_by(view: View, **settings) -> Chosen:
    return scanned(view, **settings).select(view, generator())


def samples(view: View, **settings) -> list[tuple[Chosen, Scanned]]:
    methods = [scanned(view, seed=seed, **settings) for seed in range(SEEDS)]
    return [(method.select(view, generator()), method) for method in methods]


def off(view: View, chosen: Chosen) -> torch.Tensor:
    denominator = exact(view)[1]
    return (view.estimate(chosen)[1] - denominator) / denominator


def test_the_least_raise_is_what_solves_for_the_variance():
    draws = generator()
    p, squares = torch.rand(50, 30, generator=draws).double(), torch.rand(50, 30, generator=draws).double()
    now = (squares / p * (1 / p - 1)).sum(-1)
    for share in (0.9, 0.1, 1e-3):
        m = least_raise(squares, p, share * now)
        then = (squares / p * (1 / (m[:, None] * p).clamp_max(1) - 1)).sum(-1)
        torch.testing.assert_close(then, share * now)
    assert torch.equal(least_raise(squares, p, now * 1.001), torch.ones(50).double())


def test_the_least_raise_by_hand():
    """x^2 = 1: 2 (1 / (m / 2) - 1) + 4 (1 / (m / 4) - 1); of certain keys, or none, nothing is left to raise."""
    squares, p = torch.ones(1, 3).double(), torch.tensor([[0.25, 1.0, 0.5]]).double()
    assert float(least_raise(squares, p, torch.tensor([14.0]).double())) == 1
    assert float(least_raise(squares, p, torch.tensor([4.0]).double())) == pytest.approx(2.0)
    assert float(least_raise(squares, p, torch.tensor([2.0]).double())) == pytest.approx(16 / 6)
    assert float(least_raise(squares, p, torch.tensor([0.0]).double())) == pytest.approx(4.0)
    for none in (torch.ones_like(p), p):
        kept = torch.where(none == 1, squares, 0.0)
        assert float(least_raise(kept, none, torch.tensor([0.0]).double())) == 1


@pytest.mark.parametrize("per", ["group", "head"])
def test_a_raised_sample_holds_the_first_and_asks_no_more_of_rows_that_are_enough(per):
    view = made_view(N, heads=2, repeats=3)
    settings = {"per": per, "bits": 2, "epsilon": 0.07, "delta": 0.1}
    first, raised = (chosen_by(view, **some) for some in ({"per": per, "bits": 2}, settings))
    assert bool((raised.count >= first.count).all())
    assert bool((raised.p >= first.p).all())
    assert torch.equal(raised.p == 1, (raised.p == 1) & (raised.count > 0))
    more = raise_for(view, first, 0.07, 0.1, "denominator")
    lacking = (more > 1).any(-1, keepdim=True) if per == "group" else more > 1
    assert bool(lacking.any())
    grown = raised.keys > first.keys
    assert torch.equal(grown, lacking.expand_as(grown))
    assert bool((raise_for(view, raised, 0.07, 0.1, "denominator") == 1).all())


def test_what_cannot_be_met_otherwise_is_read_until_next_to_nothing_is_left():
    view = made_view(N, heads=2, repeats=3)
    chosen = chosen_by(view, epsilon=1e-6, delta=0.01)
    assert bool((chosen.keys > 0.9 * N).all())
    assert float(off(view, chosen).abs().max()) < 1e-3


def test_an_epsilon_that_is_met_draws_what_a_fixed_budget_draws():
    view = made_view(N, heads=2, repeats=3)
    fixed, loose = chosen_by(view), chosen_by(view, epsilon=0.9, delta=0.9)
    assert torch.equal(fixed.p, loose.p)


@pytest.mark.parametrize("per", ["group", "head"])
@pytest.mark.parametrize("bits", [1, 4])
def test_sums_are_unbiased_given_the_codes(per, bits):
    """One rotation and one set of codes: only the step's random numbers differ."""
    view = made_view(N, heads=2, repeats=2)
    method, sums = scanned(view, per=per, bits=bits), []
    for step in range(1500):
        method._tokens = lambda view, step=step: torch.tensor([step], dtype=torch.int32)
        numerator, denominator = view.estimate(method.select(view, generator()))
        sums.append(torch.cat([numerator, denominator[..., None]], -1))
    numerator, denominator, _ = exact(view)
    want = torch.cat([numerator, denominator[..., None]], -1).double()
    assert float(deviations_off(torch.stack(sums), want).max()) < SIGMAS


def test_a_budget_that_follows_the_sample_biases_by_less_than_a_hundredth():
    """A hit that was unlikely raises the budget, and so weighs less than it should; bound stated, not zero."""
    view = made_view(N, repeats=REPEATS, beta=1.0)
    for bits in (1, 4):
        found = torch.cat([off(view, chosen) for chosen, _ in samples(view, bits=bits, epsilon=0.1, delta=0.1)])
        assert abs(float(found.double().mean())) < 0.01


@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.2])
def test_epsilon_is_exceeded_no_more_often_than_delta(epsilon):
    """Of well-estimated keys, where the first sample is not enough; up to the noise of the share."""
    view = made_view(N, repeats=REPEATS, beta=1.5)
    settings = {"bits": 4, "budget": 20, "delta": epsilon, "epsilon": epsilon}
    found = samples(view, **settings)
    beyond = torch.cat([off(view, chosen).abs() > epsilon for chosen, _ in found]).double().mean()
    fixed = samples(view, bits=4, budget=20)
    unraised = torch.cat([off(view, chosen).abs() > epsilon for chosen, _ in fixed]).double().mean()
    keys = torch.cat([chosen.keys for chosen, _ in found]).double().mean()
    assert float(beyond) <= epsilon + 3 * (epsilon * (1 - epsilon) / DRAWS) ** 0.5
    assert float(unraised) > 1.5 * epsilon
    assert 25 < float(keys) < 0.9 * N


def test_both_hold_the_output_to_epsilon():
    view = made_view(N, repeats=REPEATS, beta=1.5)
    out, beyond = exact(view)[2], {}
    for check in ("denominator", "both"):
        found = samples(view, epsilon=0.2, delta=0.1, check=check)
        errors = [(view.attend(chosen) - out).norm(dim=-1) / out.norm(dim=-1) for chosen, _ in found]
        beyond[check] = float((torch.cat(errors) > 0.2).double().mean())
    assert beyond["both"] <= 0.1 + 3 * (0.1 * 0.9 / DRAWS) ** 0.5
    assert beyond["denominator"] > 0.2


@pytest.mark.parametrize("bits", [2, 4])
def test_intervals_of_well_estimated_keys_cover(bits):
    """Nominal 0.95, less 0.01 for a variance that is estimated from some forty keys, less the noise of the share."""
    view = made_view(N, repeats=REPEATS, beta=1.0)
    total, covered = exact(view)[1], []
    for chosen, method in samples(view, bits=bits):
        estimate = view.estimate(chosen)[1]
        covered.append((estimate - total).abs() <= 1.96 * method.errors(view, chosen).denominator * estimate)
    share = float(torch.cat(covered).double().mean())
    assert share > 0.94 - 3 * (0.95 * 0.05 / DRAWS) ** 0.5


def test_only_the_floor_finds_heavy_keys_that_are_held_to_be_light():
    """40 of 400 keys with half of the weight, of which the codes are those of keys with next to none. Without a floor
    they are missed, and the sample thinks itself enough; a floor that meets some has them raised for."""
    view = made_view(N, repeats=REPEATS, beta=0.5)
    light, heavy = view.keys.clone(), view.keys.clone()
    towards = view.q[:, 0] / view.q[:, 0].square().sum(-1, keepdim=True) * D**0.5
    heavy[:, :40], light[:, :40] = 3.0 * towards[:, None], -8.0 * towards[:, None]
    view, beyond = replace(view, keys=heavy), []
    for floor in (0.0, 0.3):
        found = samples(view, keys=light, floor=floor, epsilon=0.2, delta=0.1)
        beyond.append(float((torch.cat([off(view, chosen) for chosen, _ in found]).abs() > 0.2).double().mean()))
    assert beyond[0] > 0.95
    assert beyond[1] < 0.6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 0.1}, "delta: expected one where there is epsilon, got none"),
        ({"delta": 0.1}, "epsilon: expected one where there is delta, got none"),
        (
            {"epsilon": 0.1, "delta": 0.1, "budget": 0},
            "budget: expected more than nothing where there is epsilon",
        ),
        ({"epsilon": 0.1, "delta": 0.3, "check": "both"}, "delta: expected at most 0.2 where check is both, got 0.3"),
        ({"epsilon": 0.0, "delta": 0.1}, "epsilon: "),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value.split(":")[0],
)
def test_what_cannot_be_promised_is_refused(settings, message):
    with pytest.raises(ValidationError) as caught:
        DecodeConfig(method="scan", parameters=settings)
    assert one_line(caught.value).startswith(message)


def test_who_knows_no_exact_scores_refuses_epsilon():
    with pytest.raises(ArgumentError, match="epsilon: expected none"):
        ScanSelector(ScanParameters(epsilon=0.1, delta=0.1), 0, D, OPS)


def test_epsilon_decodes_by_the_reference_layer():
    p = ScanParameters(dense_layers=(0,), sink=4, window=8, seal_tokens=16, budget=8, epsilon=0.3, delta=0.2)
    model = decoder(p)
    produced = list(generate(model, prompts(90, 40), 20))
    assert len(produced) == 20
    assert all(isinstance(layer, SelectingLayer) for layer in model.caches[1:])
    alone = list(generate(decoder(p), prompts(90, 40)[:1], 20))
    assert [step[0] for step in produced] == [step[0] for step in alone]
