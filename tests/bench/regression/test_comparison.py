"""What becomes of benchmarks that are gone, renamed, broken or redefined, with workers that only pretend."""

from __future__ import annotations

import json

import pytest

from truffle.bench.regression import comparison, rounds, summary
from truffle.bench.regression.comparison import compare, exit_code
from truffle.kernels.checks import ArgumentError

SECONDS = 1e-3


class Pretender:
    """An arm of a tree that is a dictionary of benchmarks by name."""

    def __init__(self, tree):
        self.tree = tree

    def send(self, **question):
        self.answer = self.ask(**question)

    def receive(self):
        return self.answer

    def ask(self, do, name="", calls=0):
        if do == "names":
            return {"names": list(self.tree)}
        told = {"seconds": SECONDS, "figures": {"error": 0.1}, "workload": {"n": 1}}
        return told | self.tree[name]

    def close(self):
        pass


@pytest.fixture
def found(monkeypatch):
    monkeypatch.setattr(rounds, "Arm", Pretender)

    def run(base, candidate, retired=(), kinds=None):
        rows = compare({"base": base, "candidate": candidate}, kinds, 0.1, retired, lambda what: None)
        return {row.name: row.status for row in rows}, exit_code(rows), rows

    return run


A, B, C = "retrieve/a", "retrieve/b", "swiglu/a"


def test_equals_pass(found):
    assert found({A: {}, B: {}}, {A: {}, B: {}})[:2] == ({A: "same", B: "same"}, 0)


def test_a_slower_one_fails(found):
    assert found({A: {}, B: {}}, {A: {"seconds": 1.3 * SECONDS}, B: {}})[:2] == ({A: "slower", B: "same"}, 1)


def test_a_faster_one_passes(found):
    assert found({A: {}}, {A: {"seconds": 0.5 * SECONDS}})[:2] == ({A: "same"}, 0)


def test_a_less_accurate_one_fails_whatever_its_time(found):
    worse = {"figures": {"error": 0.2}, "seconds": SECONDS / 2}
    assert found({A: {}}, {A: worse})[:2] == ({A: "worse"}, 1)


def test_a_renamed_one_is_told_and_fails_unless_retired(found):
    statuses, code, rows = found({A: {}}, {B: {}})
    assert (statuses, code) == ({A: "gone", B: "new"}, 1)
    assert rows[0].note == f"renamed to {B}?"
    assert found({A: {}}, {B: {}}, retired=(A,))[:2] == ({A: "retired", B: "new"}, 0)


def test_a_redefined_one_is_not_compared(found):
    assert found({A: {}}, {A: {"workload": {"n": 2}}})[:2] == ({A: "redefined"}, 1)


def test_one_that_breaks_fails_and_others_go_on(found):
    statuses, code, rows = found({A: {}, B: {}}, {A: {"error": "it ended with -11"}, B: {}})
    assert (statuses, code) == ({A: "broken", B: "same"}, 1)
    assert rows[0].note == "in candidate: it ended with -11"


def test_one_that_was_broken_before_is_no_regression(found):
    broken = {"error": "it ended with -11"}
    assert found({A: broken}, {A: {}})[:2] == ({A: "mended"}, 0)
    assert found({A: broken}, {A: broken})[:2] == ({A: "uncertain"}, 3)


@pytest.mark.parametrize("kinds", [None, ["swiglu"]])
def test_a_kind_that_the_candidate_lacks_is_gone(found, kinds):
    statuses, code, _ = found({A: {}, C: {}}, {A: {}}, kinds=kinds)
    assert (statuses[C], code) == ("gone", 1)


@pytest.mark.parametrize("kinds", [None, ["swiglu"]])
def test_a_kind_that_base_lacks_is_new(found, kinds):
    statuses, code, _ = found({A: {}}, {A: {}, C: {}}, kinds=kinds)
    assert (statuses[C], code) == ("new", 0)


def test_other_kinds_are_left_out(found):
    assert found({A: {}, C: {}}, {A: {}, C: {}}, kinds=["retrieve"])[0] == {A: "same"}


def test_a_kind_that_neither_has_is_wrong_usage(found):
    with pytest.raises(ArgumentError, match=r"ops: expected some of retrieve, swiglu, got 'retreive'"):
        found({A: {}}, {C: {}}, kinds=["retrieve", "retreive"])


@pytest.mark.parametrize("name", ["", "retrieve", B])
def test_retired_is_what_base_has(found, name):
    with pytest.raises(ArgumentError, match=f"retired: expected some of base's {A}, got {name!r}"):
        found({A: {}}, {A: {}, B: {}}, retired=[A, name])


def test_retired_may_be_of_a_kind_that_is_left_out(found):
    assert found({A: {}, C: {}}, {A: {}}, retired=[C], kinds=["retrieve"])[:2] == ({A: "same"}, 0)


def test_uncertain_is_neither_passed_nor_failed():
    assert exit_code([comparison.Row(A, "uncertain"), comparison.Row(B, "same")]) == 3
    assert exit_code([comparison.Row(A, "uncertain"), comparison.Row(B, "slower")]) == 1


def test_the_summaries_tell_every_row(found):
    base, candidate = {A: {}, B: {}, "decode/a": {}}, {A: {"seconds": 2 * SECONDS}, B: {"figures": {"error": 0.2}}}
    rows = found(base, candidate)[2]
    head = {"base": "b" * 40, "candidate": "c" * 40, "threshold": 0.1, "command": "gate"}
    head["environment"] = {"cpu": {"model": "a CPU"}}
    text = summary.markdown(rows, head)
    assert text.startswith("### Gate: regression at a threshold of 0.1 in time: 1 gone, 1 slower, 1 worse")
    assert all(row.name in text for row in rows)
    assert "error 0.1 -> 0.2" in text
    content = json.loads(json.dumps(summary.record(rows, head), allow_nan=False))
    assert content["exit_code"] == 1
    assert {row["name"]: row["status"] for row in content["benchmarks"]} == {row.name: row.status for row in rows}
    assert summary.table(rows).row_count == 3
    assert len(content["benchmarks"][1]["turns"][0]) == rounds.TURNS
