"""A study of accuracy alone: no throughput, nothing of a machine in it, and any machine may join."""

from __future__ import annotations

import json

import optuna

from tests.autotune.fakes import Bench, record, space
from truffle.autotune.accuracy_space import AccuracySpace
from truffle.autotune.accuracy_study import accuracy_front, finish_accuracy
from truffle.autotune.cli import build_parser
from truffle.autotune.limits import Limits
from truffle.autotune.options import fingerprint
from truffle.autotune.search import Search
from truffle.autotune.stopping import Stopping
from truffle.autotune.storage import open_study


def accuracy_space(methods=("lsh", "scan", "quest"), **where) -> AccuracySpace:
    plain = space(methods=methods, **where)
    return AccuracySpace(plain.workload, plain.target, plain.threads, 0, methods)


def test_two_machines_ask_for_the_same_points():
    drawn = []
    for there in (accuracy_space(gpu="h200"), accuracy_space(gpu="none", memory_gib=64)):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        drawn.append([there.suggest(study.ask()) for _ in range(60)])
        assert there.marks == accuracy_space().marks
        for _, point in there.first_points():
            study.enqueue_trial(point)
            trial = study.ask()
            assert there.suggest(trial) == there.config(point)
            assert set(trial.params) == set(point)
    assert drawn[0] == drawn[1]
    assert {config.method for config in drawn[0]} == {"lsh", "scan", "quest"}


def test_nothing_is_timed_and_kl_is_weighed_against_rows(tmp_path):
    bench, there = Bench(), accuracy_space()
    study = open_study(tmp_path, {}, seed=0)
    search = Search(study, there, bench, Limits(), 0.0, lambda record: None, timed=False)
    search.plan()
    assert search.run(Stopping(14, 60)) == "trials"
    assert bench.timed == 0
    done = [r for r in search.judged() if r.status == "complete"]
    assert all(r.tokens_per_s is None and r.kl is not None for r in done)
    assert [trial.values[1] for trial in study.trials if trial.values][:3] == [-0.05] * 3
    finish_accuracy(tmp_path, search.judged(), "trials", "python -m autotune --accuracy-only")
    assert len(json.loads((tmp_path / "accuracy.json").read_text())["records"]) == len(search.judged())


def test_the_front_is_of_kl_and_rows():
    points = [record(n, kl, 1.0, rows=rows).updated(tokens_per_s=None) for n, (kl, rows) in
              enumerate([(0.01, 0.2), (0.02, 0.1), (0.03, 0.15), (0.04, 0.05)])]  # fmt: skip
    assert [r.number for r in accuracy_front(points)] == [0, 1, 3]


def test_its_mark_says_nothing_of_a_machine():
    for only in (True, False):
        arguments = build_parser().parse_args(["tune", "--methods", "quest", *(["--accuracy-only"] if only else [])])
        one, other = (fingerprint(arguments, there.workload, there.target) for there in (space(), space(gpu="l20")))
        assert (one == other) == only
