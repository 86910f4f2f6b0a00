"""What is published: measured anew in turns, until told apart from noise, and no longer than that takes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.autotune.fakes import record, space
from truffle.autotune.answer import best_feasible, decide, default_of, gains
from truffle.autotune.baselines import Baseline
from truffle.autotune.confirm import confirm
from truffle.autotune.contest import LEAST_ROUNDS, MOST_ROUNDS, Contest, interval
from truffle.autotune.measuring import Measured, MeasureError


class Honest:
    """Rates by L with noise of a few percent; what all rounds share is a machine that slows down."""

    def __init__(self, rates: dict[int, float], noise: float = 0.0, drift: float = 0.0, kind: str = "measured") -> None:
        self.calls: list[int] = []
        self._rates, self._noise, self._drift, self._kind = rates, noise, drift, kind
        self._random = np.random.default_rng(0)

    def measure(self, config, fidelity, repeat=0):
        assert fidelity == "throughput"
        tables = config.parameters.L
        if self._rates[tables] == 0:
            raise MeasureError("out of memory")
        slower = (1 - self._drift) ** (len(self.calls) // 2)
        self.calls.append(tables)
        rate = self._rates[tables] * slower * float(np.exp(self._noise * self._random.standard_normal()))
        figures = {"tokens_per_s": rate, "tokens_per_s_low": rate * 0.9, "tokens_per_s_high": rate * 1.1}
        return Measured({**figures, "throughput_kind": self._kind, "step_ms": 1e3 / rate}, 0.0)


def confirmed(bench, *records, budget_s: float = 60.0) -> dict[int, object]:
    return {r.number: r for r in confirm(records, space(), bench, budget_s)}


EXACT, THERE = Baseline("all on the GPU", True, None, batch_size=2, tokens_per_s=5.0), space()
DEFAULT = record(0, 0.02, 11.0, origin="default")


def test_a_lucky_figure_is_replaced_and_turns_are_taken():
    bench = Honest({150: 12.0, 200: 20.0}, noise=0.01)
    found = confirmed(bench, DEFAULT, record(7, 0.01, 500.0, L=200))
    assert len(bench.calls) == 2 * LEAST_ROUNDS, "clear after the least that are made"
    assert {tuple(bench.calls[i : i + 2]) for i in range(0, 6, 2)} == {(150, 200), (200, 150)}, "nobody always follows"
    assert found[7].confirmed
    assert found[7].tokens_per_s == pytest.approx(20.0, rel=0.03)
    assert found[7].tokens_per_s_low < found[7].tokens_per_s < found[7].tokens_per_s_high
    assert found[7].gain_low > 1.5
    assert gains(found[7], found[0])
    assert (found[0].gain_low, found[0].repeats) == (None, LEAST_ROUNDS)


def test_no_gain_is_a_result_after_all_rounds():
    bench = Honest({150: 12.0, 200: 12.0}, noise=0.03)
    found = confirmed(bench, DEFAULT, record(7, 0.01, 500.0, L=200))
    assert len(bench.calls) == 2 * MOST_ROUNDS
    assert found[7].gain_low < 1 < found[7].gain_high
    assert not gains(found[7], found[0])


def test_no_more_rounds_than_the_budget_has_time_for():
    bench = Honest({150: 12.0, 200: 12.0}, noise=0.03)
    confirmed(bench, DEFAULT, record(7, 0.01, 500.0, L=200), budget_s=0.0)
    assert len(bench.calls) == 2 * LEAST_ROUNDS


class Clocked(Honest):
    """Every turn takes ten seconds of a clock that nothing else moves."""

    def __init__(self, rates: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(rates, noise=0.01)
        self._now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self._now)

    def measure(self, config, fidelity, repeat=0):
        self._now += 10.0
        return super().measure(config, fidelity, repeat)


@pytest.mark.parametrize(("budget_s", "dropped"), [(120.0, []), (100.0, [220]), (80.0, [220, 180]), (0.0, [220, 180])])
def test_the_contest_is_between_those_that_there_is_time_for(monkeypatch, budget_s, dropped):
    """Three rounds of four take 120 seconds; of three, after a first one of four, 100."""
    bench = Clocked({150: 12.0, 200: 20.0, 180: 18.0, 220: 14.0}, monkeypatch)
    points = [record(n, 0.01, 500.0 + n, L=L) for n, L in ((7, 200), (8, 180), (9, 220))]
    found = confirmed(bench, DEFAULT, *points, budget_s=budget_s)
    assert [bench.calls.count(tables) for tables in dropped] == [1] * len(dropped)
    assert [found[number].confirmed for number in (0, 7, 8, 9)] == [True, True, 180 not in dropped, 220 not in dropped]
    assert found[9].tokens_per_s == (509.0 if dropped else pytest.approx(14.0, rel=0.03))
    assert decide([r for r in found.values() if r.confirmed], EXACT, None).trial.number == 7


def test_a_machine_that_slows_down_does_so_for_both():
    bench = Honest({150: 12.0, 200: 13.0}, noise=0.005, drift=0.05)
    found = confirmed(bench, DEFAULT, record(7, 0.01, 500.0, L=200))
    assert len(bench.calls) < 2 * MOST_ROUNDS
    assert found[7].tokens_per_s_low < found[0].tokens_per_s_high, "their intervals overlap"
    assert gains(found[7], found[0])


def test_whoever_falls_behind_leaves_the_contest():
    bench = Honest({150: 10.0, 200: 12.0, 180: 12.0, 220: 5.0}, noise=0.01)
    points = [record(n, 0.01, 90.0 + n, L=L) for n, L in ((7, 200), (8, 180), (9, 220))]
    confirmed(bench, DEFAULT, *points)
    assert bench.calls.count(220) == LEAST_ROUNDS
    assert bench.calls.count(200) == bench.calls.count(180) > LEAST_ROUNDS


def test_a_point_that_was_not_among_the_best_is_measured_when_they_fall_behind_it():
    bench = Honest({150: 11.0, 200: 12.0, 180: 90.0}, noise=0.01)
    found = confirmed(bench, DEFAULT, record(7, 0.01, 500.0, L=200), record(8, 0.01, 400.0, L=180))
    assert best_feasible(list(found.values())).number == 8
    assert all(r.confirmed for r in found.values())


def test_what_fails_when_measured_again_is_not_recommended():
    bench = Honest({150: 11.0, 200: 0.0})
    found = confirmed(bench, DEFAULT, record(7, 0.01, 500.0, L=200))
    assert not found[7].confirmed
    assert found[7].infeasible_because == "failed when it was measured again: out of memory"
    assert best_feasible(list(found.values())).number == 0
    assert found[0].confirmed


def test_without_a_feasible_point_the_default_is_confirmed_alone():
    infeasible = DEFAULT.updated(feasible=False)
    found = confirmed(Honest({150: 11.0}), infeasible)
    assert default_of(list(found.values())).confirmed


def test_repetition_does_not_narrow_what_a_model_may_be_wrong_by():
    found = confirmed(Honest({150: 11.0}, noise=0.001, kind="estimated"), DEFAULT)
    assert found[0].tokens_per_s_low == pytest.approx(11.0 * 0.9, rel=0.01)


class Slowing(Honest):
    """A machine that is slower for everybody from a point's fourth turn on."""

    def measure(self, config, fidelity, repeat=0):
        self._drift = 0.0
        found = super().measure(config, fidelity, repeat)
        slower = 0.9 if self.calls.count(config.parameters.L) > LEAST_ROUNDS else 1.0
        return Measured({**found.figures, "tokens_per_s": slower * found.figures["tokens_per_s"]}, 0.0)


def test_who_fell_behind_is_not_the_best_for_having_left_before_the_machine_slowed_down():
    rates = {150: 92.0, 200: 100.0, 180: 100.2, 220: 97.0}
    for seed in range(20):
        bench = Slowing(rates, noise=0.004)
        bench._random = np.random.default_rng(seed)
        points = [record(n, 0.01, 190.0 + n, L=L) for n, L in ((7, 200), (8, 180), (9, 220))]
        found = confirmed(bench, DEFAULT, *points)
        best = best_feasible(list(found.values()))
        assert best.number in (7, 8)
        assert best.gain_low <= best.gain <= best.gain_high
        assert best.gain == pytest.approx(rates[best_table(best)] / 92.0, rel=0.02)
        behind = [r for r in found.values() if r.behind is not None]
        assert all(r.repeats >= LEAST_ROUNDS and r.number != best.number for r in behind)
        assert decide([*found.values()], EXACT, None).gain_over_default == best.gain


def best_table(best) -> int:
    return {7: 200, 8: 180}[best.number]


def test_a_default_that_could_be_kept_leaves_slower_ones_behind():
    found = confirmed(Honest({150: 20.0, 200: 12.0, 180: 12.0}, noise=0.01), DEFAULT,
                      record(7, 0.01, 500.0, L=200), record(8, 0.01, 490.0, L=180))  # fmt: skip
    assert (found[7].behind, found[8].behind) == (0, 0)
    assert best_feasible(list(found.values())).number == 0


def test_a_default_that_fails_leaves_no_gain_over_it():
    class Failing(Honest):
        def measure(self, config, fidelity, repeat=0):
            if config.parameters.L == 150 and 150 in self.calls:
                raise MeasureError("out of memory")
            return super().measure(config, fidelity, repeat)

    found = confirmed(Failing({150: 11.0, 200: 12.0}), DEFAULT, record(7, 0.01, 500.0, L=200))
    assert (found[7].gain, found[7].gain_low, found[7].gain_high) == (None, None, None)
    assert not found[0].feasible


def test_what_is_estimated_of_the_card_has_to_be_apart_by_more_than_repetition():
    default = record(0, 0.02, 15.0, origin="default", tokens_per_s_high=16.0, throughput_kind="estimated")
    near = {"gain": 1.03, "gain_low": 1.02, "gain_high": 1.04, "throughput_kind": "estimated"}
    assert gains(record(1, 0.01, 15.5, tokens_per_s_low=14.5, **near), default), "only the host's part differs"
    filled = record(1, 0.01, 15.5, tokens_per_s_low=14.5, dense_layers="0,1,2,16", **near)
    assert not gains(filled, default)
    assert gains(filled.updated(tokens_per_s_low=16.1), default)
    scanned = record(1, 0.01, 15.5, tokens_per_s_low=14.5, method="scan", **near)
    assert not gains(scanned, default), "one was predicted, the other timed"


def test_the_gain_covers_the_truth_whichever_round_the_contest_ends_in():
    """Equal points; after each round it is looked whether they are apart. Bound: 5%, and 4 standard errors."""
    missed, contests = 0, 800
    for seed in range(contests):
        bench = Honest({150: 12.0, 200: 12.0}, noise=0.03)
        bench._random = np.random.default_rng(seed)
        contest = Contest(bench, DEFAULT)
        contest.run([record(7, 0.01, 12.0, L=200), DEFAULT], THERE, time.monotonic() + 60)
        low, high = contest.gain(7, 0)
        missed += not low <= 1 <= high
    assert missed / contests < 0.05 + 4 * (0.95 * 0.05 / contests) ** 0.5


def test_the_interval_covers_the_mean_at_least_as_often_as_it_says():
    random = np.random.default_rng(1)
    for count in (3, 6, 12):
        found = [interval(list(random.standard_normal(count))) for _ in range(4000)]
        assert np.mean([low <= 0 <= high for low, high in found]) > 0.95
