"""Planted tasks: attention over everything solves them, and each defeats what it is meant to defeat."""

from __future__ import annotations

import math

import pytest
import torch

from truffle.bench.tasks.planted import EDGE, PLANTED, exact

KEYS = 200
PEAKED = ("needle", "multivalue", "chain")


def top(q, keys, values):
    chosen = (keys @ q).topk(KEYS).indices
    return exact(q, keys[chosen], values[chosen])


def latest(q, keys, values):
    return exact(q, keys[-EDGE:], values[-EDGE:])


def uniform():
    generator = torch.Generator().manual_seed(0)

    def attend(q, keys, values):
        chosen = torch.randperm(len(keys), generator=generator)[:KEYS]
        return exact(q, keys[chosen], values[chosen])

    return attend


def sampled():
    """Draws in proportion to the weights, with replacement."""
    generator = torch.Generator().manual_seed(0)

    def attend(q, keys, values):
        weights = (keys @ q / math.sqrt(len(q))).softmax(0)
        return values[torch.multinomial(weights, KEYS, replacement=True, generator=generator)].mean(0)

    return attend


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "d"), [(4096, 64), (1000, 64), (4096, 128)])
def test_exact_attention_solves_all(name, seed, n, d):
    planted = PLANTED[name](n=n, d=d, seed=seed)
    assert planted.keys.shape == planted.values.shape == (n, d)
    assert planted.score(exact) == 100
    assert planted.output_error(exact) == 0


@pytest.mark.parametrize("name", PEAKED)
def test_peaks_are_found_by_top_k_and_lost_by_the_window_and_by_chance(name):
    planted = PLANTED[name]()
    assert planted.score(top) == planted.score(sampled()) == 100
    assert planted.score(latest) < 20
    assert planted.score(uniform()) < 20
    assert planted.output_error(latest) > 0.5


def test_broad_attention_defeats_top_k_and_not_sampling():
    planted = PLANTED["frequency"]()
    assert planted.score(top) < 10
    assert planted.score(sampled()) > 95
    assert planted.score(uniform()) > 90
    assert planted.output_error(top) > 3 * planted.output_error(sampled())


def test_four_peaks_weigh_the_same():
    planted = PLANTED["multivalue"]()
    weights = planted.codes @ exact(planted.queries[0], planted.keys, planted.values)
    heaviest = weights[planted.answers[0]]
    assert heaviest.sum() > 0.95
    assert (heaviest.max() - heaviest.min()) < 0.02


def test_a_broken_link_ends_the_chain():
    planted = PLANTED["chain"](links=5)
    asked = []

    def fails_at_the_third(q, keys, values):
        asked.append(q)
        return exact(-q if len(asked) == 3 else q, keys, values)

    assert planted.score(fails_at_the_third) == 40
    assert len(asked) == 3


def test_planting_repeats_by_seed():
    for make in PLANTED.values():
        assert torch.equal(make(seed=1).keys, make(seed=1).keys)
        assert not torch.equal(make(seed=1).keys, make(seed=2).keys)


def test_sizes_are_refused_in_one_line():
    for name, make in PLANTED.items():
        with pytest.raises(ValueError, match="n: expected at least 384 keys at d = 64, got 383"):
            make(n=383)
        with pytest.raises(ValueError, match="d: expected at least 8, got 4"):
            make(d=4)
        argument = "links" if name == "chain" else "queries"
        with pytest.raises(ValueError, match=f"{argument}: expected 1 to 63, got 64"):
            make(**{argument: 64})
