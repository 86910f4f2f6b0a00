"""The order of trials, budgets, pruning, failures, and going on after a crash; nothing is measured for real."""

from __future__ import annotations

import pytest

from tests.autotune.fakes import Bench, space
from truffle.autotune.limits import Limits
from truffle.autotune.measuring import MeasureError
from truffle.autotune.record import describe
from truffle.autotune.search import Search
from truffle.autotune.stopping import Stopping
from truffle.autotune.storage import JOURNAL, StudyError, open_study, repair

FINGERPRINT = {"gpu": "rtx-4090", "workload": "llama-3.1-8b@96k"}


def search(folder, fingerprint=FINGERPRINT, fastest=0.0, bench=None, there=None, **limits) -> Search:
    study = open_study(folder, fingerprint, seed=1)
    bench = bench or Bench()
    return Search(study, there or space(), bench, Limits(**limits), fastest, lambda record: None)


def run(found: Search, trials: int, timeout_s: float = 60) -> str:
    found.plan()
    return found.run(Stopping(trials, timeout_s, len(found._study.trials)))


def complete(found: Search) -> list:
    return [record for record in found.judged() if record.status == "complete"]


def test_the_default_comes_first_then_the_papers_points(tmp_path):
    found = search(tmp_path / "s")
    assert run(found, 8) == "trials"
    done = complete(found)
    assert [(r.origin, r.K, r.L) for r in done[:6]] == [
        ("default", 10, 150), ("paper", 8, 75), ("paper", 9, 120),
        ("paper", 10, 170), ("paper", 10, 220), ("paper", 11, 300),
    ]  # fmt: skip
    plain = (4, "bfloat16", "none", "retrieve + sparse_attend")
    assert all((r.threads, r.store_format, r.probing, r.attend_with) == plain for r in done[:6])
    assert [r.origin for r in done[6:]] == ["search", "search"]
    assert (done[6].label, done[6].kl) == ("lsh (10, 150), 15 dense layers", done[0].kl)


def test_the_defaults_own_kl_is_the_limit(tmp_path):
    found = search(tmp_path / "s")
    run(found, 6)
    assert found.limits.max_kl == pytest.approx(0.02)
    by_point = {(r.K, r.L): r for r in complete(found)}
    assert by_point[10, 150].feasible
    assert by_point[10, 220].feasible
    assert not by_point[9, 120].feasible or by_point[9, 120].kl <= found.limits.max_kl


def test_a_given_limit_holds(tmp_path):
    found = search(tmp_path / "s", max_kl=0.001)
    run(found, 6)
    assert found.limits.max_kl == 0.001
    assert all(r.feasible == (r.kl <= 0.001) for r in complete(found))
    assert "over the limit" in complete(found)[0].infeasible_because


def test_memory_rules_points_out_but_the_papers_are_measured(tmp_path):
    found = search(tmp_path / "s", there=space(memory_gib=24))
    run(found, 12)
    default, large = complete(found)[0], next(r for r in complete(found) if (r.K, r.L) == (11, 300))
    assert default.feasible
    assert large.status == "complete"
    assert not large.feasible
    assert large.infeasible_because.startswith("needs 27.4 GB of the host's")
    pruned = [r for r in found.judged() if r.status == "pruned"]
    assert pruned
    assert all(r.origin == "search" and r.reason for r in pruned)
    assert all(r.host_memory_bytes <= 24 * 2**30 for r in complete(found) if r.origin == "search")


def test_accuracy_is_measured_once_a_parameter_set_and_format(tmp_path):
    bench = Bench()
    found = search(tmp_path / "s", bench=bench)
    run(found, 25)
    assert len(bench.keys("kl")) == len(set(bench.keys("kl")))
    names = ("K", "L", "min_hits", "probing", "threads", "batch_size", "pinning", "store_format", "attend_with")
    names += ("dense_layers",)
    settings = [tuple(getattr(r, name) for name in names) for r in complete(found)]
    assert len(settings) == len(set(settings)), "no point is measured twice"
    assert {r.store_format for r in complete(found)} == {"bfloat16", "int8"}, "both formats are tried"
    assert all(found._space.config_of(r).execution.store_format == r.store_format for r in complete(found))
    assert all((", int8" in r.label) == (r.store_format == "int8") for r in complete(found))


def test_probing_and_the_fused_operation_are_searched_and_come_back_from_a_record(tmp_path):
    bench = Bench()
    found = search(tmp_path / "s", bench=bench)
    run(found, 40)
    done = complete(found)
    assert {r.probing.split()[0] for r in done} == {"none", "ball", "directed"}
    assert {r.attend_with for r in done} == {"retrieve + sparse_attend", "retrieve_attend"}
    for r in done:
        config = found._space.config_of(r)
        assert describe(config) == {name: getattr(r, name) for name in describe(config)}
        assert config.parameters.probing.name == r.probing
        assert (f", {r.probing}" in r.label) == (r.probing != "none")
        assert config.fused == (r.attend_with == "retrieve_attend")
    probed = {(r.K, r.L, r.min_hits, r.probing, r.store_format) for r in done}
    assert len(bench.keys("kl")) == len(probed), "accuracy is that of the parameters, whichever operations attend"


def test_a_failed_trial_is_a_record_and_the_search_goes_on(tmp_path):
    found = search(tmp_path / "s", bench=Bench(3, MeasureError("RuntimeError: cpu_native failed its gate")))
    assert run(found, 7) == "trials"
    failed = [r for r in found.judged() if r.status == "failed"]
    assert [(r.K, r.L, r.reason, r.kl) for r in failed] == [(9, 120, "RuntimeError: cpu_native failed its gate", None)]


def test_budgets_and_exhaustion_are_named(tmp_path):
    assert run(search(tmp_path / "a"), 5, 1e-9) == "timeout"
    nothing_left = search(tmp_path / "b", fastest=1e9)
    assert run(nothing_left, 50) == "space exhausted"
    reasons = {r.reason.split()[0] for r in nothing_left.judged() if r.status == "pruned"}
    assert "would" in reasons, "slower than exact by bandwidth alone"


def test_ctrl_c_loses_no_finished_trial(tmp_path):
    stopped = search(tmp_path / "s", bench=Bench(4, KeyboardInterrupt()))
    assert run(stopped, 9) == "interrupted"
    before = [r.to_dict() for r in complete(stopped)]
    assert len(before) == 3
    bench = Bench()
    resumed = search(tmp_path / "s", bench=bench)
    assert [r.to_dict() for r in complete(resumed)] == before
    assert resumed.limits.max_kl == stopped.limits.max_kl
    assert run(resumed, 9) == "trials"
    points = [(r.origin, r.K, r.L) for r in complete(resumed)]
    assert ("paper", 10, 170) in points, "the interrupted point is tried again"
    assert len(points) == 9, "finished trials are counted in total"
    assert not any('"L":75,' in key for key in bench.keys("kl")), "known accuracy is not measured again"


def test_a_killed_run_leaves_a_journal_that_goes_on(tmp_path):
    first = search(tmp_path / "s")
    run(first, 3)
    zombie = first._study.ask()  # as a killed process leaves it: asked, never told
    first._space.suggest(zombie)
    first._study.enqueue_trial({"K": 6})  # nor may what waited repel what was planned
    journal = tmp_path / "s" / JOURNAL
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "torn')
    resumed = search(tmp_path / "s")
    assert run(resumed, 6) == "trials"
    assert [(r.K, r.L) for r in complete(resumed)].count((10, 170)) == 1
    assert journal.with_suffix(".torn").read_bytes().endswith(b"torn")
    assert not repair(journal), "what was written since is whole"


def test_another_study_is_not_gone_on_with(tmp_path):
    run(search(tmp_path / "s"), 1)
    with pytest.raises(StudyError, match="gpu 'rtx-4090', expected the same, got 'l20'"):
        search(tmp_path / "s", fingerprint={**FINGERPRINT, "gpu": "l20"})


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit()])
def test_a_run_stopped_in_its_first_trial_still_learns_the_limit_first(tmp_path, stop):
    stopped = search(tmp_path / "s", bench=Bench(1, stop))
    if isinstance(stop, SystemExit):
        with pytest.raises(SystemExit):
            run(stopped, 4)
    else:
        assert run(stopped, 4) == "interrupted"
    resumed = search(tmp_path / "s")
    run(resumed, 4)
    done = complete(resumed)
    assert (done[0].origin, done[0].K, done[0].L) == ("default", 10, 150)
    assert resumed.limits.max_kl == pytest.approx(0.02)
    assert [r.feasible for r in done] == [r.kl <= resumed.limits.max_kl for r in done]


def test_without_the_defaults_kl_there_is_no_limit_and_so_no_search(tmp_path):
    found = search(tmp_path / "s", bench=Bench(1, MeasureError("no memory")))
    with pytest.raises(StudyError, match="default sets the error limit, and failed: no memory"):
        run(found, 4)


def test_a_search_that_only_fails_stops(tmp_path):
    class Broken(Bench):
        def measure(self, config, fidelity, repeat=0):
            raise MeasureError("always")

    found = search(tmp_path / "s", bench=Broken(), max_kl=0.1)
    assert run(found, 50) == "failures"
    assert all(r.reason == "always" for r in found.judged())
