"""Standard errors from one sample against the spread over many.

Over 4,000 draws the mean of the estimated variance is within 15% of the observed mean square; of the output, which is a
ratio, to first order, within 25%.
"""

from __future__ import annotations

import pytest

from tests.model.methods.test_samplers import DRAWS, OPS, N, chosen_by
from tests.model.methods.views import exact, generator, made_view
from truffle.model.methods.choosing.errors import of_draws, of_independent, of_uniform
from truffle.model.methods.choosing.methods import selector_of
from truffle.model.selecting_parameters import (
    OracleSamplingParameters,
    OracleTopKParameters,
    QuestParameters,
    VAttentionParameters,
)

ESTIMATORS = {"uniform": of_uniform, "iid": of_draws, "priority": of_independent, "fixed vattention": of_uniform}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimated_variances_are_those_observed(name):
    view = made_view(N, repeats=DRAWS, beta=0.7, seed=2)
    chosen = chosen_by(name, view)
    errors = ESTIMATORS[name](view, chosen)
    _, denominator, out = exact(view)
    found = view.estimate(chosen)[1]
    if name == "iid":  # its denominator is exact
        assert float(errors.denominator.max()) < 1e-2
    else:
        observed = (found - denominator).square().mean()
        assert float((errors.denominator * found).square().mean() / observed) == pytest.approx(1.0, abs=0.15)
    attended = view.attend(chosen)
    claimed = (errors.output * attended.norm(dim=-1)).square().mean()
    assert float(claimed / (attended - out).square().sum(-1).mean()) == pytest.approx(1.0, abs=0.25)


def test_a_full_sample_has_no_error():
    view = made_view(N, repeats=2)
    p = VAttentionParameters(heavy_budget=10, base_budget=1.0)
    method = selector_of(p, 0, 16, OPS)
    errors = method.errors(view, method.select(view, generator()))
    assert float(errors.denominator.abs().max()) == float(errors.output.abs().max()) == 0.0


@pytest.mark.parametrize("p", [OracleTopKParameters(), QuestParameters(), OracleSamplingParameters(draws="systematic")],
                         ids=lambda p: p.method)  # fmt: skip
def test_who_cannot_know_its_error_says_so(p):
    view = made_view(N)
    method = selector_of(p, 0, 16, OPS)
    method.add(view.keys)
    assert method.errors(view, method.select(view, generator())) is None
