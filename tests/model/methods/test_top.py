"""Top-k, top-p and Quest against brute force."""

from __future__ import annotations

import pytest
import torch

from tests.model.methods.views import everything, generator, made_view
from truffle.model.methods.choosing.quest import Pages, Quest, pages_of
from truffle.model.methods.choosing.top import OracleTopK, OracleTopP
from truffle.model.selecting_parameters import OracleTopKParameters, OracleTopPParameters, QuestParameters, keys_of


@pytest.mark.parametrize(("budget", "n", "keys"), [(5, 100, 5), (5, 3, 3), (0.05, 100, 5), (0.05, 1, 1), (1.0, 7, 7),
                                                   (0, 9, 0), (0.0, 9, 0), (0.001, 9, 1)])  # fmt: skip
def test_budgets_are_counts_or_fractions(budget, n, keys):
    assert keys_of(budget, n) == keys


def test_top_k_takes_the_largest_scores():
    view = made_view(70, heads=2, repeats=2)
    chosen = OracleTopK(OracleTopKParameters(budget=7)).select(view, generator())
    for g in range(2):
        want = sorted(range(70), key=lambda key: -view.scores[g, 0, key])[:7]
        assert chosen.count[g, 0].nonzero()[:, 0].tolist() == sorted(want)
    assert bool((chosen.p[chosen.count > 0] == 1).all())


@pytest.mark.parametrize("mass", [0.0, 0.3, 0.9, 0.999, 1.0])
def test_top_p_holds_its_mass_and_no_more_than_it_needs(mass):
    view = made_view(90, heads=3)
    chosen = OracleTopP(OracleTopPParameters(mass=mass)).select(view, generator())
    total = view.estimate(everything(view))[1]
    held = view.estimate(chosen)[1] / total
    assert bool((held >= mass - 1e-6).all())
    least = view.weights.masked_fill(chosen.count == 0, torch.inf).amin(-1)
    without = held - torch.where(least.isinf(), 0.0, least) / total
    assert bool(((without < mass + 1e-6) | (chosen.keys == 0)).all()), "one key fewer would not do"
    left = view.weights.masked_fill(chosen.count > 0, -torch.inf).amax(-1)
    assert bool((left <= least).all())


@pytest.mark.parametrize("parts", [[45], [32, 13], [1] * 45, [15, 1, 16, 13], [10, 35]], ids=str)
def test_pages_grow_as_keys_come(parts):
    keys = torch.randn(2, 45, 16, generator=generator())
    pages = Pages(16)
    for part in keys.split(parts, dim=1):
        pages.add(part)
    for page, part in enumerate(keys.split(16, dim=1)):
        torch.testing.assert_close(pages.least[:, page], part.amin(1))
        torch.testing.assert_close(pages.most[:, page], part.amax(1))
    assert pages.least.shape[1] == 3


def test_no_score_is_above_its_pages_bound():
    view = made_view(75, heads=2, repeats=3)
    pages = Pages(16)
    pages.add(view.keys)
    bounds = pages.bounds(view.q)
    for page, scores in enumerate(view.scores.split(16, dim=-1)):
        assert bool((scores.amax(-1) <= bounds[..., page] + 1e-5).all())
    for corner in (0, 1, 2):  # where one key is its page, the bound is its score
        single = Pages(1)
        single.add(view.keys[:, corner : corner + 1])
        torch.testing.assert_close(single.bounds(view.q)[..., 0], view.scores[..., corner])


def test_quest_takes_whole_pages_of_the_best_bounds():
    view = made_view(75, heads=2)
    quest = Quest(QuestParameters(budget=35, page_size=16))
    quest.add(view.keys)
    chosen = quest.select(view, generator())
    for head, bounds in enumerate(quest.pages.bounds(view.q)[:, 0]):
        best = bounds.topk(2).indices.tolist()
        assert {key // 16 for key in chosen.count[head, 0].nonzero()[:, 0].tolist()} == set(best)
        assert int(chosen.keys[head, 0]) == sum(min(16, 75 - 16 * page) for page in best)


@pytest.mark.parametrize(("budget", "pages"), [(0, 0), (1, 1), (31, 1), (32, 2), (0.5, 2), (75, 5), (1.0, 5)])
def test_a_budget_pays_for_whole_pages(budget, pages):
    assert pages_of(budget, 75, 16) == pages
