"""What ends a search, and what repeats are worth."""

from __future__ import annotations

import pytest

from tests.autotune.fakes import Bench, record, space
from truffle.autotune.limits import Limits
from truffle.autotune.lock import LOCK, held
from truffle.autotune.options import require_free
from truffle.autotune.repeats import pooled_records
from truffle.autotune.search import MOST_REPEATS, Search
from truffle.autotune.stopping import NOTHING_NEW_IN_A_ROW, STILL, STILL_IN_A_ROW, Stopping, trials_since_move
from truffle.autotune.storage import JOURNAL, StudyError, open_study, repair


def others(count: int, first: int, **changes):
    """Points that are no better in either than a KL of 0.01 at 30 tokens/s."""
    return [record(first + i, 0.02, 20.0, **changes) for i in range(count)]


def test_a_front_that_stands_still_ends_the_search():
    start = [record(0, 0.02, 15.0, origin="default"), record(1, 0.01, 30.0)]
    stopping = Stopping(1000, 60)
    assert stopping.reason([*start, *others(STILL_IN_A_ROW - 1, 2)]) is None
    still = [*start, *others(STILL_IN_A_ROW, 2)]
    assert stopping.reason(still) == STILL
    assert stopping.reason([*still, record(99, 0.01, 30.9)]) is None, "3% faster moves it"
    assert stopping.reason([*still, record(99, 0.01, 30.1)]) == STILL, "0.3% does not"
    assert stopping.reason([*still, record(99, 0.005, 3.0)]) is None, "nor need it be faster where KL is less"
    assert Stopping(1000, 60, first=3 + STILL_IN_A_ROW).reason(still) is None, "of an earlier run"


def test_what_was_never_measured_says_nothing_of_the_front():
    start = [record(0, 0.01, 30.0)]
    assert trials_since_move([*start, *others(5, 1, feasible=False)], 0) == 5
    known = [r.updated(status="pruned", feasible=None) for r in others(5, 1)]
    assert trials_since_move([*start, *known], 0) == 0
    assert trials_since_move([*start, *(r.updated(screen_error=0.4) for r in known)], 0) == 5
    assert trials_since_move([*start, *others(5, 1, origin="paper")], 0) == 0


def test_repeats_are_pooled_and_nothing_new():
    first = record(3, 0.01, 30.0)
    again = [record(n, 0.01, 36.0).updated(status="repeat", repeat_of=3) for n in (4, 9)]
    (found,) = pooled_records([first, *again])
    assert (found.number, found.repeats, found.tokens_per_s) == (3, 3, pytest.approx(34.0))
    assert (found.tokens_per_s_low, found.tokens_per_s_high) == (30.0 * 0.98, 36.0 * 1.02)
    assert Stopping(2, 60).reason([first, *again]) is None, "one point of two"
    many = [r.updated(number=10 + i) for i, r in enumerate(again * NOTHING_NEW_IN_A_ROW)]
    assert Stopping(2, 60).reason([first, *many]) in ("space exhausted", STILL)


def test_a_point_asked_for_again_is_measured_again_up_to_a_limit(tmp_path):
    class One(type(space())):
        def suggest(self, trial):
            return self.config({"K": trial.suggest_int("K", 10, 10), "L": 150, "batch_size": 1})

    plain, bench = space(), Bench()
    there = One(plain.workload, plain.target, plain.threads, 0)
    study = open_study(tmp_path, {}, seed=0)
    search = Search(study, there, bench, Limits(max_kl=1.0), 0.0, lambda record: None)
    for _ in range(MOST_REPEATS + 2):
        search._one()
    (found,) = [r for r in search.judged() if r.status == "complete"]
    assert found.repeats == bench.timed == MOST_REPEATS
    assert len(bench.keys("kl")) == 1
    assert [r.reason for r in search.judged() if r.status == "pruned"] == ["the same as trial 0"] * 2
    assert search.finished == 1


def test_two_tuners_on_one_folder_are_refused(tmp_path):
    folder = tmp_path / "out"
    with (
        held(folder),
        pytest.raises(StudyError, match=r"another tuner is at work in .*out \(process \d+\)"),
        held(folder),
    ):
        pass
    assert not folder.exists(), "no study came of it"
    with held(folder):
        open_study(folder, {}, seed=0)
    with held(folder):
        assert (folder / JOURNAL).exists()


def test_the_lock_of_one_that_was_killed_is_no_study(tmp_path):
    (tmp_path / LOCK).write_text("123\n")
    require_free(tmp_path, resume=False)
    with held(tmp_path):
        pass
    assert tmp_path.exists(), "it was there before"


@pytest.mark.parametrize("damage", [b'{"op_code": 4, "torn', b"\x00" * 40, b"\x00\x00\n", b"[1]\n"])
def test_a_torn_journal_goes_on_and_is_kept(tmp_path, damage, capsys):
    study = open_study(tmp_path, {"gpu": "x"}, seed=0)
    study.set_user_attr("mark", 1)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + damage)
    again = open_study(tmp_path, {"gpu": "x"}, seed=0)
    assert "was torn" in capsys.readouterr().err
    again.set_user_attr("mark", 2)
    assert open_study(tmp_path, {"gpu": "x"}, seed=0).user_attrs["mark"] == 2
    assert journal.with_suffix(".torn").read_bytes() == whole + damage
    assert not repair(journal)
