"""What a choice says of itself, unions, and that the kernels understand it."""

from __future__ import annotations

import torch

from tests.model.methods.views import SIGMAS, deviations_off, generator, made_view, unbiased
from truffle.kernels.sparse_attend.reference import sparse_attend
from truffle.kernels.store import Store
from truffle.model.methods.choosing.chosen import Chosen, certainly, union
from truffle.model.methods.choosing.priority import prioritised
from truffle.model.methods.choosing.uniform import Uniform
from truffle.model.selecting_parameters import UniformParameters

P = torch.tensor([[0.5, 0.25, 1.0, 0.125], [0.5, 0.5, 0.5, 0.5]])
COUNT = torch.tensor([[0, 2, 1, 0], [1, 0, 0, 0]])


def test_packed_lists_what_was_taken_and_fills_up_with_nothing():
    ids, p, count = Chosen(COUNT, P).packed()
    assert ids[0].tolist() == [1, 2]
    assert ids[1, 0] == 0
    assert p[0].tolist() == [0.25, 1.0]
    assert count.tolist() == [[2, 1], [1, 0]]


def test_weights_are_counts_over_probabilities():
    chosen = Chosen(COUNT, P)
    torch.testing.assert_close(chosen.log_weight.exp(), COUNT / P)
    assert chosen.keys.tolist() == [2, 1]


def test_a_union_of_independent_samples_is_unbiased_and_its_p_is_its_frequency():
    view = made_view(60, repeats=6000)
    draws = generator()
    first = Uniform(UniformParameters(budget=9)).select(view, draws)
    second = Uniform(UniformParameters(budget=20)).select(view, draws)
    both = union(first, second)
    torch.testing.assert_close(both.p, torch.full_like(both.p, 1 - (1 - 9 / 60) * (1 - 20 / 60)))
    assert float(deviations_off(both.count[0].double(), both.p[0, 0].double()).max()) < SIGMAS
    unbiased(view, both)


def test_a_union_with_what_is_certain_stays_certain():
    both = union(certainly(COUNT > 0), Chosen((COUNT == 0).long(), P))
    assert bool((both.p[COUNT > 0] == 1).all())
    torch.testing.assert_close(both.p[COUNT == 0], P[COUNT == 0])


def test_sparse_attend_takes_a_packed_choice():
    view = made_view(50, heads=2, repeats=3)
    chosen = prioritised(view.scores, torch.rand(2, 1, 50, generator=generator()).log(), 11)
    ids, p, count = chosen.packed()
    store = Store.holding(view.keys, view.values, torch.float32)
    out, lse = torch.empty(1, 6, 16), torch.empty(1, 6)
    log_u = (p.log() - count.log()).flatten(0, 1)
    sparse_attend(view.q.flatten(0, 1)[None], [store], ids.flatten(0, 1).int(), chosen.keys.flatten().int(),
                  None, None, log_u.float(), out, lse, scale=0.25)  # fmt: skip
    want = (view.scores + chosen.log_weight).softmax(-1) @ view.values
    torch.testing.assert_close(out[0], want.flatten(0, 1), atol=1e-5, rtol=1e-5)
