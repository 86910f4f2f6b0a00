"""LSH sampling as a selector: the law of every key, the sampled layer's own sample, and errors from the tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.model.methods.views import FIXED, SIGMAS, D, deviations_off, exact, generator, made_view
from truffle.model.config import DecodeConfig, Execution, LshParameters, Probing
from truffle.model.methods.choosing.collisions import Collisions
from truffle.model.methods.choosing.table_errors import by_table, jackknife
from truffle.model.methods.lsh import LshSelector
from truffle.model.methods.sampled import SampledLayer
from truffle.model.methods.selecting import SelectingLayer
from truffle.model.operations import Operations

OPS = Operations(DecodeConfig(execution=Execution(store_format="float32")), "cpu")
BALL, DIRECTED = Probing(kind="ball", amount=1), Probing(kind="directed", amount=3)
LAWS = [
    LshParameters(K=3, L=10, seal_tokens=1),
    LshParameters(K=3, L=20, min_hits=1, seal_tokens=1, centred=False),
    LshParameters(K=5, L=8, probing=BALL, seal_tokens=1),
    LshParameters(K=5, L=8, probing=DIRECTED, seal_tokens=1),
    LshParameters(K=5, L=12, family="cross_polytope", coordinates=4, seal_tokens=1),
    LshParameters(K=4, L=12, min_hits=1, family="cross_polytope", coordinates=8, seal_tokens=1),
    LshParameters(K=3, L=10, family="simple_lsh", seal_tokens=1),
    LshParameters(K=3, L=12, min_hits=1, family="simple_lsh", seal_tokens=1, centred=False),
    LshParameters(K=5, L=6, min_hits=1, probing=BALL, seal_tokens=1),
]
SEEDS = 200


def drawn(p: LshParameters, view, seed: int) -> Collisions:
    """The tables of one draw of the planes."""
    found = Collisions(p, seed, view.q.shape[-1], OPS)
    found.add(view.keys)
    return found


@pytest.mark.parametrize("p", LAWS, ids=lambda p: f"{p.family} {p.probing.name} min_hits {p.min_hits}")
def test_keys_are_sampled_as_often_as_their_law_says(p):
    """Over 200 draws of planes; where the query directs, p itself depends on the draw."""
    view = made_view(60, heads=2, repeats=1)
    found = [drawn(p, view, seed).select(view, generator()) for seed in range(SEEDS)]
    count, p_of = (torch.stack([getattr(chosen, name) for chosen in found]).double() for name in ("count", "p"))
    deviation = ((p_of * (1 - p_of)).mean(0) / SEEDS).sqrt()
    assert bool(((count - p_of).mean(0).abs() < SIGMAS * deviation + 3 / SEEDS).all()), (
        "3 for what is hardly met at all"
    )
    assert 0.02 < float(count.mean()) < 0.9


@pytest.mark.parametrize("p", LAWS, ids=lambda p: f"{p.family} {p.probing.name} min_hits {p.min_hits}")
def test_sums_are_unbiased_over_planes(p):
    view = made_view(60, beta=1.0)
    numerator, denominator, _ = exact(view)
    found = [view.estimate(drawn(p, view, seed).select(view, generator())) for seed in range(SEEDS)]
    assert float(deviations_off(torch.stack([n for n, _ in found]), numerator.double()).max()) < SIGMAS
    assert float(deviations_off(torch.stack([d for _, d in found]), denominator.double()).max()) < SIGMAS


@pytest.mark.parametrize("p", LAWS[:6], ids=lambda p: f"{p.family} {p.probing.name} min_hits {p.min_hits}")
def test_the_sample_is_that_of_the_sampled_layer(p):
    """Batches, open segments and seals between steps included."""
    p = p.model_copy(update={"seal_tokens": 16, "sink": 4, "window": 8})
    sampled = SampledLayer(4, 8, 16, torch.float32, LshSelector(p, 2, D, OPS), OPS)
    selecting = SelectingLayer(4, 8, 0, 2, lambda: Collisions(p, 2, D, OPS))
    prompts = [torch.randn(2, 2, n, D, generator=generator(n)) for n in (70, 5, 29)]
    for layer in (sampled, selecting):
        layer.prefill([keys for keys, _ in prompts], [values for _, values in prompts])
    draws = generator()
    for _ in range(26):
        q = torch.randn(3, 6, D, generator=draws)
        new = torch.randn(2, 3, 2, D, generator=draws)
        torch.testing.assert_close(selecting.decode(q, *new), sampled.decode(q, *new), atol=1e-4, rtol=1e-4)
        assert torch.equal(selecting.usage().attended, sampled.usage().attended)
        assert torch.equal(selecting.usage().cached, sampled.usage().cached)
        assert torch.equal(selecting.rows(), sampled.rows())


@pytest.mark.parametrize(
    "kind",
    [{}, {"probing": BALL}, {"family": "cross_polytope", "coordinates": 2}, {"family": "simple_lsh"}],
    ids=["plain", "ball", "cross_polytope", "simple_lsh"],
)
def test_every_table_is_unbiased_and_their_spread_covers(kind):
    """95% intervals from 30 tables cover at least 88% of 200 draws of planes (91 to 97 in METHODS 0.5b)."""
    view = made_view(60, beta=1.0)
    p = LshParameters(K=3, L=30, min_hits=1, seal_tokens=1, **kind)
    numerator, denominator, out = exact(view)
    found = [by_table(drawn(p, view, seed), view) for seed in range(SEEDS)]
    denominators = torch.stack([table.denominators.mean(2) for table in found])
    assert float(deviations_off(denominators, denominator.double()).max()) < SIGMAS
    numerators = torch.stack([table.numerators.mean(2) for table in found])
    assert float(deviations_off(numerators, numerator.double()).max()) < SIGMAS
    errors = torch.stack([table.errors.denominator for table in found]) * denominators
    covered = ((denominators - denominator).abs() <= 1.96 * errors).double().mean()
    assert 0.88 <= float(covered) <= 0.99
    offs = torch.stack([(table.output - out).norm(dim=-1) / table.output.norm(dim=-1) for table in found])
    claimed = torch.stack([table.errors.output for table in found])
    assert float(offs.square().mean() / claimed.square().mean()) == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("probing", [Probing(), DIRECTED], ids=lambda probing: probing.kind)
def test_the_jackknife_covers(probing):
    """95% intervals from 5 groups cover at least 86% of 200 draws, 90 to 99 in METHODS 0.5b, by being too wide."""
    p = LshParameters(K=5, L=25, probing=probing, seal_tokens=1)
    view = made_view(60, beta=1.0)
    _, denominator, out = exact(view)
    covered, offs, claimed = [], [], []
    for seed in range(200):
        collisions = drawn(p, view, seed)
        chosen = collisions.select(view, generator())
        errors, found = collisions.errors(view, chosen), view.estimate(chosen)[1]
        covered.append(bool((found - denominator).abs() <= 2.776 * errors.denominator * found))
        offs.append(float((view.attend(chosen) - out).norm() / out.norm()))
        claimed.append(float(errors.output))
    assert 0.86 <= sum(covered) / 200 <= 1.0
    ratio = torch.tensor(claimed).square().mean() / torch.tensor(offs).square().mean()
    assert 1.0 < float(ratio) < 4.0


def test_open_keys_are_certain_and_without_tables_nothing_errs():
    view = made_view(20)
    collisions = Collisions(LshParameters(seal_tokens=50), 0, D, OPS)
    collisions.add(view.keys)
    chosen = collisions.select(view, generator())
    assert bool((chosen.count == 1).all() and (chosen.p == 1).all())
    assert collisions.errors(view, chosen) is None
    assert collisions.table_hits(view).sum() == 0
    collisions.add(made_view(60, seed=9).keys)
    assert collisions.open == 0


def test_later_keys_that_are_longer_than_simple_lshs_radius_have_their_own_law():
    p = LshParameters(K=3, L=10, family="simple_lsh", seal_tokens=60)
    view, longer = made_view(60, heads=2), 3 * made_view(60, heads=2, seed=5).keys
    both = replace(view, keys=torch.cat([view.keys, longer], 1), values=view.values.repeat(1, 2, 1))
    found = [drawn(p, view, seed) for seed in range(SEEDS)]
    for collisions in found:
        collisions.add(longer)
    chosen = [collisions.select(both, generator()) for collisions in found]
    count, p_of = (torch.stack([getattr(one, name) for one in chosen]).double() for name in ("count", "p"))
    deviation = (p_of * (1 - p_of) / SEEDS).mean(0).sqrt()
    assert bool(((count - p_of).mean(0).abs() < SIGMAS * deviation + 3 / SEEDS).all())
    norms = (longer - found[0].center[:, None]).norm(dim=-1)
    assert float((norms > found[0].radius[:, None]).float().mean()) > 0.9


def test_simple_lsh_has_no_fast_layer():
    with pytest.raises(ValueError, match="family: expected simhash or cross_polytope"):
        LshSelector(LshParameters(family="simple_lsh"), 0, D, OPS)


def test_too_few_tables_have_no_jackknife_and_directed_ones_no_table_estimate():
    view = made_view(20)
    assert jackknife(drawn(LshParameters(K=3, L=4, seal_tokens=1), view, 0), view) is None
    with pytest.raises(ValueError, match="probing: expected none or a ball"):
        by_table(drawn(LAWS[3], view, 0), view)


def test_a_query_or_key_of_nothing_has_a_law():
    view = made_view(30)
    keys = view.keys.clone()
    keys[:, 3] = keys.mean(1)
    still = replace(view, q=torch.zeros_like(view.q), keys=keys)
    chosen = drawn(LAWS[0], still, 0).select(still, generator())
    assert bool(chosen.p.isfinite().all() and (chosen.p > 0).all())
    assert view.fixed_keys.shape[1] == FIXED
