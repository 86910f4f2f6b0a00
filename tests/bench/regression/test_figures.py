"""Figures that never vary: what rises is worse, what falls is told, and rounding is neither."""

from __future__ import annotations

from math import inf, nan

import pytest

from truffle.bench.regression.figures import changes

FIGURES = {"bytes_moved": 1000, "keys_retrieved": 40.0, "density": 0.01, "error": 0.1, "index_bytes": 64,
           "allocated_bytes": 20_000, "leaked_bytes": 0.0, "disagrees": None}  # fmt: skip


def found(candidate, base=None, control=None):
    base = FIGURES | (base or {})
    return [(one.figure, one.worse) for one in changes(base, FIGURES | candidate, base | (control or {}))]


@pytest.mark.parametrize(
    ("figure", "value"),
    [("bytes_moved", 1001), ("keys_retrieved", 41.0), ("density", 0.0101), ("error", 0.102), ("index_bytes", 66),
     ("allocated_bytes", 30_000), ("leaked_bytes", 96.0)],
)  # fmt: skip
def test_what_rises_is_worse(figure, value):
    assert found({figure: value}) == [(figure, True)]


@pytest.mark.parametrize(("figure", "value"), [("bytes_moved", 900), ("error", 0.05), ("allocated_bytes", 9_000)])
def test_what_falls_is_told_and_passes(figure, value):
    assert found({figure: value}) == [(figure, False)]


@pytest.mark.parametrize(
    ("figure", "value"), [("error", 0.1000001), ("allocated_bytes", 21_000), ("leaked_bytes", 40.0)]
)
def test_rounding_and_what_python_caches_are_no_change(figure, value):
    assert found({figure: value}) == []


def test_what_two_runs_of_base_differ_by_is_no_change():
    assert found({"keys_retrieved": 42.0}, control={"keys_retrieved": 38.0}) == []


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_what_is_no_longer_finite_is_worse_and_what_is_again_is_told(value):
    assert found({"error": value}) == [("error", True)]
    assert found({}, base={"error": value}) == [("error", False)]
    assert found({"error": nan}, base={"error": value}) == []


@pytest.mark.parametrize("value", [nan, inf])
def test_a_control_that_is_not_finite_excuses_nothing(value):
    assert found({"error": 0.2}, control={"error": value}) == [("error", True)]
    assert found({"error": nan}, control={"error": value}) == [("error", True)]
    assert found({}, control={"error": value}) == []


def test_a_disagreement_with_the_reference_is_worse_and_its_end_is_not():
    assert found({"disagrees": "ids differ"}) == [("disagrees", True)]
    assert found({}, base={"disagrees": "ids differ"}) == [("disagrees", False)]


def test_a_figure_that_vanishes_is_worse_and_a_new_one_is_told():
    assert found({"error": None}) == [("error", True)]
    assert found({}, base={"error": None}) == [("error", False)]
