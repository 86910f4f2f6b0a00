"""The rule on seeded and recorded times: how often it raises a false alarm, and how often it misses."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.bench.regression.noise import BURSTS, CALM, DRIFTING, NOISY, USUAL
from truffle.bench.regression.rule import bounds, in_two_stages, judge, rounds_to_convict

NAMES = [str(number) for number in range(20)]
RUNS = 30
RECORDED = json.loads((Path(__file__).parent / "recorded_times.json").read_text())["streams"]


def shares(noise, slowdown, threshold=0.1):
    """Shares of benchmarks by call, and of runs with one or more called slower."""
    generator, calls, alarms = np.random.default_rng(0), Counter(), 0
    for _ in range(RUNS):
        found, _ = in_two_stages(NAMES, lambda names, n: noise.streams(generator, slowdown, names, n), threshold)
        calls.update(verdict.call for verdict in found.values())
        alarms += any(verdict.call == "slower" for verdict in found.values())
    return {call: calls[call] / RUNS / len(NAMES) for call in ("same", "slower", "uncertain")}, alarms / RUNS


@pytest.mark.parametrize("noise", [CALM, USUAL, DRIFTING, BURSTS, NOISY])
def test_what_did_not_change_is_called_slower_in_one_run_of_twenty_at_most(noise):
    assert shares(noise, 1.0)[1] <= 0.05


@pytest.mark.parametrize("noise", [CALM, USUAL, DRIFTING])
def test_what_did_not_change_is_cleared(noise):
    assert shares(noise, 1.0)[0]["same"] >= 0.99


@pytest.mark.parametrize("noise", [CALM, USUAL, DRIFTING])
@pytest.mark.parametrize("slowdown", [1.2, 1.3])
def test_what_is_clearly_slower_is_found(noise, slowdown):
    assert shares(noise, slowdown)[0]["slower"] >= 0.99


def test_bursts_leave_most_of_1_3_to_be_found_and_none_to_pass():
    found, _ = shares(BURSTS, 1.3)
    assert found["slower"] >= 0.8
    assert found["same"] == 0.0


@pytest.mark.parametrize("noise", [CALM, USUAL, DRIFTING, BURSTS, NOISY])
def test_what_is_slower_by_the_threshold_rarely_passes(noise):
    """MISS in each of two stages, and 3 standard errors of a share of 600."""
    assert shares(noise, 1.1)[0]["same"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / (RUNS * len(NAMES)))


def test_1_1_is_found_at_a_threshold_that_it_exceeds():
    assert shares(CALM, 1.1, threshold=0.05)[0]["slower"] >= 0.99


def test_a_noisy_machine_is_told_to_be_one():
    assert shares(NOISY, 1.0)[0]["uncertain"] >= 0.5


def scaled(slowdown):
    return {name: [[(base, candidate * slowdown, control) for base, candidate, control in turns] for turns in rounds]
            for name, rounds in RECORDED.items()}  # fmt: skip


def test_recorded_times_of_one_revision_against_itself_raise_no_alarm():
    assert {verdict.call for verdict in judge(scaled(1.0), 0.1).values()} <= {"same", "uncertain"}


@pytest.mark.parametrize("slowdown", [1.3, 2.0])
def test_recorded_times_made_longer_do_not_pass(slowdown):
    assert "same" not in {verdict.call for verdict in judge(scaled(slowdown), 0.1).values()}


def test_a_control_that_is_off_by_more_convicts_nobody():
    """Base's first process is slow whatever runs: nothing at all does 1.35 times here."""
    assert judge({"a": [[(1.0, 1.3, 1.35)] * 5] * 12}, 0.1)["a"].call == "uncertain"


def test_a_control_that_is_off_clears_nobody():
    assert judge({"a": [[(1.0, 1.0, 1.3)] * 5] * 12}, 0.1)["a"].call == "uncertain"


def test_bounds_hold_the_median_as_often_as_they_say():
    generator = np.random.default_rng(1)
    misses = [bounds(list(generator.standard_cauchy(12)), 0.05)[0] > 0 for _ in range(4000)]
    exact = sum(math.comb(12, k) for k in range(3)) / 2**12
    assert exact <= 0.05
    assert np.mean(misses) == pytest.approx(exact, abs=4 * math.sqrt(exact / 4000))


def test_too_few_rounds_have_no_bounds():
    assert bounds([0.1, 0.2], 0.05) == (-math.inf, math.inf)


def test_rounds_suffice_to_convict():
    for benchmarks in (1, 3, 24, 100):
        count = rounds_to_convict(benchmarks)
        assert bounds([-1.0, *([1.0] * (count - 1))], 0.05 / benchmarks)[0] == 1.0
        assert bounds([-1.0, *([1.0] * (count - 2))], 0.05 / benchmarks)[0] <= 0
