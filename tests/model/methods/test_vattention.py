"""vAttention: a guarantee, held where it is promised, and the cases where published code fails (METHODS 1.3).

A share of violations among 2,000 independent draws, for a true rate of at most delta, exceeds delta + 3 sqrt(delta (1 -
delta) / 2000) in one of 700 cases.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from tests.model.methods.views import SIGMAS, deviations_off, exact, generator, made_view, unbiased
from truffle.model.config import DecodeConfig
from truffle.model.methods.choosing.enough import by_bernstein, by_hoeffding, by_normal, deviations
from truffle.model.methods.choosing.selector import View
from truffle.model.methods.choosing.vattention import VAttention, Verified
from truffle.model.operations import Operations
from truffle.model.selecting_parameters import VAttentionParameters

OPS = Operations(DecodeConfig(), "cpu")
DRAWS = 2000


def chosen_by(view: View, draws: int = 1, **settings) -> Verified:
    p = VAttentionParameters(**settings)
    method = VAttention(p, 0, view.q.shape[-1], OPS)
    method.add(view.keys)
    return method.select(view, generator(draws))


def relative_errors(view: View, chosen: Verified) -> torch.Tensor:
    """|D_hat - D| / D of every draw."""
    denominator = exact(view)[1]
    return ((view.estimate(chosen)[1] - denominator).abs() / denominator).flatten()


def most_violations(delta: float) -> float:
    return delta + 3 * (delta * (1 - delta) / DRAWS) ** 0.5


def log_normal(sigma: float, n: int = 1000, repeats: int = DRAWS, seed: int = 3) -> View:
    """A view whose weights are log-normal: key i has one dimension, its score."""
    view = made_view(n, repeats=repeats, seed=seed)
    scores = sigma * torch.randn(1, n, generator=generator(seed))
    keys, q = torch.zeros_like(view.keys), torch.zeros_like(view.q)
    keys[..., 0], q[..., 0] = scores, view.q.shape[-1] ** 0.5
    return replace(view, q=q, keys=keys, fixed_keys=torch.zeros_like(view.fixed_keys))


@pytest.mark.parametrize("heavy", ["oracle", "quest"])
@pytest.mark.parametrize(("bound", "epsilon", "delta"), [("bernstein", 0.2, 0.2), ("bernstein", 0.3, 0.05),
                                                         ("hoeffding", 0.3, 0.1)])  # fmt: skip
def test_a_bound_that_always_holds_holds(heavy, bound, epsilon, delta):
    view = log_normal(1.0)
    settings = {"heavy_budget": 64, "base_budget": 32, "epsilon": epsilon, "delta": delta}
    chosen = chosen_by(view, heavy=heavy, bound=bound, **settings)
    assert float((relative_errors(view, chosen) > epsilon).double().mean()) <= most_violations(delta)
    if heavy == "oracle":
        assert bool((chosen.budget < chosen.rest).any()), "the bound should ask for less than everything"


@pytest.mark.parametrize("delta", [0.05, 0.1, 0.2])
def test_two_sides_are_counted_for_a_log_normal_rest(delta):
    """One-sided, as published, .14 to .21 miss at a nominal .05 to .1; here half more than nominal at most.

    The normal bound promises no more: the base's spread is an estimate.
    """
    view = log_normal(1.0)
    chosen = chosen_by(view, heavy_budget=32, base_budget=50, epsilon=0.06, delta=delta)
    assert 50 < float(chosen.budget.double().mean()) < 900
    assert float((relative_errors(view, chosen) > 0.06).double().mean()) <= 1.5 * delta


def test_a_heavy_set_tames_a_heavy_tail():
    """At sigma 2 the base misses the few that matter, .26 to .55 of the draws fail; without them it can be trusted."""
    view = log_normal(2.0)
    settings = {"base_budget": 50, "epsilon": 0.1, "delta": 0.1}
    bare, taken = (chosen_by(view, heavy_budget=heavy, **settings) for heavy in (0, 100))
    rates = [float((relative_errors(view, chosen) > 0.1).double().mean()) for chosen in (bare, taken)]
    assert rates[0] > 0.2
    assert rates[1] <= 0.15
    assert taken.budget.double().mean() < bare.budget.double().mean()


def test_no_key_is_drawn_twice_and_none_of_the_heavy_set():
    """Drawn with replacement and merged, .0718 of the residual is lost at p = .05 and .304 at .5; here nothing is."""
    for base in (0.05, 0.5, 1.0):
        view = made_view(200, repeats=DRAWS)
        chosen = chosen_by(view, heavy_budget=20, base_budget=base, epsilon=0.99, delta=0.99)
        assert int(chosen.count.max()) == 1
        assert torch.equal(chosen.keys, chosen.heavy + chosen.budget)
        assert torch.equal(chosen.heavy + chosen.rest, torch.full_like(chosen.rest, 200))
        unbiased(view, chosen)
        weights = chosen.log_weight.exp().sum(-1)  # of a fixed budget, n exactly
        torch.testing.assert_close(weights, torch.full_like(weights, 200.0))


def test_a_base_of_nothing_still_leaves_nothing_out():
    view = made_view(200, repeats=4000, beta=0.5)
    chosen = chosen_by(view, heavy_budget=20, base_budget=0, epsilon=0.99, delta=0.99)
    assert bool((chosen.budget == 2).all())
    unbiased(view, chosen)
    sure = chosen_by(view, heavy_budget=20, base_budget=0, epsilon=0.3, delta=0.1, bound="hoeffding")
    assert bool((sure.budget > 50).all()), "without a base, the bound alone says how many"
    assert float((relative_errors(view, sure) > 0.3).double().mean()) <= most_violations(0.1)


def test_the_sample_extends_the_base():
    view = log_normal(1.0, repeats=3)
    small = chosen_by(view, heavy_budget=20, base_budget=40, epsilon=0.99, delta=0.99)
    large = chosen_by(view, heavy_budget=20, base_budget=40, epsilon=0.05, delta=0.05)
    assert bool((small.budget == 40).all() and (large.budget > 40).all())
    assert bool((small.count <= large.count).all())


def test_reusing_the_base_biases_less_than_a_hundredth():
    """The budget follows the base, so sums are biased a little; bound stated, not zero."""
    view = log_normal(1.0, repeats=4000)
    chosen = chosen_by(view, heavy_budget=32, base_budget=50, epsilon=0.1, delta=0.1)
    denominator = exact(view)[1]
    found = view.estimate(chosen)[1]
    assert float((found.double().mean() / denominator[0, 0] - 1).abs()) < 0.01


def test_both_checks_hold_the_output_to_epsilon():
    view = log_normal(1.0)
    chosen = chosen_by(view, heavy_budget=32, base_budget=50, epsilon=0.5, delta=0.1, check="both")
    out = exact(view)[2]
    off = (view.attend(chosen) - out).norm(dim=-1) / out.norm(dim=-1)
    assert float((off > 0.5).double().mean()) <= most_violations(0.1)
    alone = chosen_by(view, heavy_budget=32, base_budget=50, epsilon=0.5, delta=0.1)
    assert chosen.budget.double().mean() > alone.budget.double().mean()


def test_normal_budget_by_hand():
    """METHODS 1.2: z = 1.96, cv = 2, rho = .5, eps = .05 ask for 1537 keys; of 3074, two thirds of that."""
    rest = torch.tensor([10**9, 3074])
    budget = by_normal(torch.tensor([1.0, 1.0], dtype=torch.float64), 0.05, 0.05, rest)
    assert budget.tolist() == [1537, 1025]
    assert deviations(0.05) == pytest.approx(1.959964)


def test_half_widths_by_hand():
    size, variance, most = torch.tensor(100), torch.tensor(0.25), torch.tensor(2.0)
    assert float(by_hoeffding(variance, most, size, 0.1)) == pytest.approx(2 * 0.12238734)
    assert float(by_bernstein(variance, most, size, 0.1)) == pytest.approx(0.130407 + 0.204072, rel=1e-5)


def test_a_heavy_set_by_collisions_is_of_the_keys_that_most_tables_give():
    view = made_view(300, heads=2, repeats=2)
    settings = {"heavy": "lsh", "K": 4, "L": 40, "heavy_budget": 24, "base_budget": 10, "epsilon": 0.5}
    method = VAttention(VAttentionParameters(**settings), 0, 16, OPS)
    method.add(view.keys)
    chosen = method.select(view, generator())
    hits = method._heavy._collisions.table_hits(view)
    certain = chosen.p == 1
    assert bool((chosen.heavy <= 24).all() and (chosen.heavy > 0).all())
    assert bool((hits[certain] >= 2).all())
    least = hits.masked_fill(~certain, 1000).amin(-1)
    most_left = hits.masked_fill(certain, 0).amax(-1)
    assert bool((least >= most_left).all())


def test_misses_of_an_approximate_heavy_set_are_sampled():
    view = made_view(300, repeats=4000)
    for heavy in ("lsh", "quest"):
        chosen = chosen_by(view, heavy=heavy, K=4, L=40, heavy_budget=24, base_budget=60, epsilon=0.99, delta=0.99)
        assert bool((chosen.budget == 60).all())
        unbiased(view, chosen)
        assert float(deviations_off(chosen.count[0].double(), chosen.p[0, 0].double()).max()) < SIGMAS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heavy": "lsh", "bound": "bernstein"}, "bound: expected clt where heavy is lsh"),
        ({"heavy_budget": 0, "bound": "hoeffding"}, "bound: expected clt where heavy_budget is 0"),
        ({"check": "both", "bound": "bernstein"}, "bound: expected clt where check is both"),
        ({"check": "both", "delta": 0.5}, "delta: expected at most 0.4 where check is both, got 0.5"),
        ({"min_hits": 3, "L": 2}, "min_hits: expected at most L = 2, got 3"),
        ({"epsilon": 0}, "epsilon"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value.split(":")[0],
)
def test_what_cannot_be_promised_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        VAttentionParameters(**settings)
