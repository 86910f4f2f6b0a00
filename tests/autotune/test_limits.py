"""Limits on what is measured, the way from cheap to expensive that they cut short, and what tasks are asked of."""

from __future__ import annotations

import pytest

from tests.autotune.fakes import Bench, record, space
from truffle.autotune.ladder import Ladder, RuledOut, least_kl
from truffle.autotune.limits import Limits, judge, read_scores
from truffle.autotune.measuring import Measured, MeasureError
from truffle.autotune.record import TrialRecord, describe
from truffle.kernels.checks import ArgumentError

THERE = space()


def blank(L: int, **point) -> tuple:
    config = THERE.config({"K": 10, "L": L, "batch_size": 1, **point})
    return config, TrialRecord(9, "failed", "search", **describe(config))


def climbed(L: int, limits: Limits, others=(), whole=False, bench=None, **point):
    bench = bench or Bench()
    return Ladder(bench, limits, others, whole).climb(*blank(L, **point)), [fidelity for fidelity, _ in bench.asked]


def measured(number: int, L: int, **changes) -> TrialRecord:
    """As the made-up bench measures it."""
    kl = 0.02 * (150 / L) ** 2
    errors = {"screen_error": kl**0.5, "output_error": kl**0.5}
    return record(number, kl, 5e3 / L, L=L, **{**errors, **changes})


OTHERS = [measured(number, L) for number, L in enumerate((150, 170, 220, 300))]


@pytest.mark.parametrize(
    ("limits", "changes", "because"),
    [
        (Limits(max_kl=0.01), {}, "KL 0.0200 is over the limit 0.0100"),
        (Limits(max_kl=0.02), {}, None),
        (Limits(max_latency_ms=30), {"step_ms": 40.0}, "40.0 ms a step is over the limit 30 ms"),
        (Limits(max_latency_ms=30), {"step_ms": 20.0}, None),
        (Limits(min_scores={"vt": 80.0}), {"scores": '{"vt": 75.0}'}, "vt 75 is under the limit 80"),
        (Limits(min_scores={"vt": 80.0}), {"scores": '{"vt": 80.0}'}, None),
        (Limits(min_scores={"vt": 80.0}), {}, "vt was not asked"),
        (Limits(), {"infeasible_because": "needs 99 GB"}, "needs 99 GB"),
    ],
)
def test_a_point_is_judged_by_each_limit(limits, changes, because):
    found = judge(record(0, 0.02, 10.0, **changes), limits)
    assert found.feasible == (because is None)
    assert (found.infeasible_because or "").startswith(because or "")


def test_excess_is_relative_and_its_sign_tells():
    found = Limits(0.01, 30, {"vt": 80.0}).excess(record(0, 0.02, 10.0, step_ms=15.0, scores='{"vt": 75.0}'))
    assert found == pytest.approx({"kl": 1.0, "latency": -0.5, "vt": 0.05})
    assert Limits(max_kl=0.0).excess(record(0, 0.02, 10.0)) == {"kl": 0.02}


def test_scores_are_read_and_refused():
    assert read_scores(["niah_single_1=90", "vt=72.5"]) == {"niah_single_1": 90.0, "vt": 72.5}
    for text in ("needle=90", "vt", "vt=", "vt=101", "vt=-1", "vt=²", "vt=٣"):
        with pytest.raises(ArgumentError, match=f"min_score: .*, got {text}"):
            read_scores([text])


def test_everything_is_measured_from_cheap_to_expensive():
    found, asked = climbed(160, Limits(max_kl=0.02), OTHERS)
    assert asked == ["statistics", "throughput", "output_error", "kl"]
    assert found.kl == pytest.approx(0.02 * (150 / 160) ** 2)


def test_a_point_far_over_the_limit_goes_no_further_than_statistics():
    with pytest.raises(RuledOut, match=r"leads to a KL of 0.0900 at least, by 4 points; the limit is 0.0200") as caught:
        climbed(50, Limits(max_kl=0.02), OTHERS, bench=(bench := Bench()))
    assert [fidelity for fidelity, _ in bench.asked] == ["statistics"]
    assert caught.value.excess["kl"] > 0
    assert climbed(50, Limits(max_kl=0.02), OTHERS, whole=True)[0].kl == pytest.approx(0.18), "but planned points do"
    assert climbed(50, Limits(max_kl=0.02), OTHERS[:3])[0].kl == pytest.approx(0.18), "three points foretell nothing"
    assert climbed(120, Limits(max_kl=0.02), OTHERS)[0].kl == pytest.approx(0.03125), "too near the limit to tell"


def test_the_least_kl_is_by_points_of_their_own_parameters():
    same = [measured(number, 150, batch_size=number + 1) for number in range(4)]
    assert least_kl("output_error", 0.3, same) is None
    assert least_kl("output_error", 0.3, OTHERS) == (pytest.approx(0.045), 4)
    assert least_kl("output_error", None, OTHERS) is None


def test_a_point_too_slow_for_the_latency_limit_is_not_asked_for_its_kl():
    with pytest.raises(RuledOut, match="ms a step is over the limit 1 ms"):
        climbed(160, Limits(max_kl=0.02, max_latency_ms=1), OTHERS, bench=(bench := Bench()))
    assert [fidelity for fidelity, _ in bench.asked] == ["statistics", "throughput"]


def test_accuracy_is_taken_from_a_point_of_the_same_parameters():
    found, asked = climbed(150, Limits(max_kl=0.02), OTHERS, threads=0)
    assert asked == ["throughput"]
    assert found.output_error == OTHERS[0].output_error


def test_tasks_are_asked_only_of_what_may_be_on_the_front():
    limits = Limits(max_kl=0.02, min_scores={"niah_single_1": 70.0})
    assert climbed(160, limits)[1][-1] == "tasks"
    better = measured(7, 400, feasible=True).updated(tokens_per_s=1e6)
    found, asked = climbed(160, limits, [better])
    assert asked[-1] == "kl"
    assert found.scores is None
    assert climbed(140, limits, whole=True)[1][-1] == "kl", "it breaks the limit on KL anyway"


def test_a_figure_that_is_no_number_is_a_failure():
    class Broken(Bench):
        def measure(self, config, fidelity, repeat=0):
            return Measured({"screen_error": float("inf")}, 0.0)

    with pytest.raises(MeasureError, match="screen_error: expected a finite number, got inf"):
        climbed(160, Limits(), bench=Broken())
