"""What crashes, hangs, runs out of memory or gives no number costs one trial, and says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.autotune import crashing
from tests.autotune.fakes import space
from truffle.autotune import isolation
from truffle.autotune.cli import main
from truffle.autotune.isolation import IsolatedBench
from truffle.autotune.limits import Limits
from truffle.autotune.measuring import MeasureError, require_finite
from truffle.autotune.search import Search
from truffle.autotune.stopping import Stopping
from truffle.autotune.storage import open_study
from truffle.model.config import DecodeConfig, LshParameters


def config(tables: int = 150) -> DecodeConfig:
    return DecodeConfig(parameters=LshParameters(L=tables))


def pid(bench: IsolatedBench) -> float:
    return bench.measure(config(), "throughput").figures["ms_link"]


@pytest.fixture(scope="module")
def bench():
    with IsolatedBench(crashing.make) as made:
        yield made


def test_figures_come_from_another_process_which_stays(bench):
    assert pid(bench) == pid(bench) != os.getpid()


@pytest.mark.parametrize(
    ("tables", "problem", "reason", "replaced"),
    [
        (crashing.SEGFAULT, "crash", r"was ended by SIGSEGV in measure \(crashing.py:\d+\)", True),
        (crashing.SEGFAULT_BESIDE, "crash", r"was ended by SIGSEGV in measure \(crashing.py:\d+\)", True),
        (crashing.KILLED, "crash", "SIGKILL, as the system does when memory runs out", True),
        (crashing.NO_MEMORY, "out of memory", "out of memory: tried to allocate 99 GiB", False),
        (crashing.RAISES, "error", "RuntimeError: cpu_native failed its gate", False),
        (crashing.SPOILT, "error", "CUDA error: an illegal memory access", True),
    ],
)
def test_a_reason_is_given_and_only_a_spoilt_process_replaced(bench, tables, problem, reason, replaced):
    before = pid(bench)
    with pytest.raises(MeasureError, match=reason) as caught:
        bench.measure(config(tables), "kl")
    assert caught.value.problem == problem
    assert (pid(bench) != before) == replaced


def test_a_process_that_died_between_measurements_is_replaced(bench):
    before = pid(bench)
    os.kill(int(before), signal.SIGKILL)
    bench._process.join(30)
    assert pid(bench) not in (before, os.getpid())


def test_one_that_goes_as_it_is_asked_costs_that_measurement(bench, monkeypatch):
    before = int(pid(bench))
    monkeypatch.setattr(bench._process, "is_alive", lambda: True)  # it was, when asked whether it is
    os.kill(before, signal.SIGKILL)
    bench._process.join(30)
    with pytest.raises(MeasureError, match="ended by SIGKILL") as caught:
        bench.measure(config(), "throughput")
    assert caught.value.problem == "crash"
    assert pid(bench) != before


def test_one_that_cannot_be_replaced_costs_measurements_and_no_endless_wait(tmp_path, monkeypatch):
    with IsolatedBench(crashing.make_once, str(tmp_path / "made")) as bench:
        monkeypatch.setattr(isolation, "PATIENCE_S", 1.0)
        monkeypatch.setattr(isolation, "TIMES_THE_FIRST", 0.0)
        bench.end()
        with pytest.raises(MeasureError, match="no answer within 1 s, before it could measure") as caught:
            bench.measure(config(), "kl")
        assert caught.value.problem == "hang"
    monkeypatch.undo()
    with IsolatedBench(crashing.refuse_again, str(tmp_path / "other")) as bench:
        bench.end()
        with pytest.raises(MeasureError, match="another process to measure cannot be started: out of shared memory"):
            bench.measure(config(), "kl")


def test_what_hangs_is_ended():
    with IsolatedBench(crashing.make, patience_s=1.0) as bench:
        with pytest.raises(MeasureError, match="no answer within 1 s") as caught:
            bench.measure(config(crashing.HANGS), "kl")
        assert caught.value.problem == "hang"


def test_patience_grows_with_what_measurements_take(bench):
    assert bench._patience_of("tasks") == 900
    bench._longest["tasks"] = 60.0
    assert bench._patience_of("tasks") == 1200
    bench._longest["tasks"] = 0.1
    assert bench._patience_of("tasks") == 120
    del bench._longest["tasks"]


def test_no_number_is_a_failure(bench):
    with pytest.raises(MeasureError, match="kl: expected a finite number, got nan") as caught:
        require_finite(bench.measure(config(crashing.NAN), "kl"))
    assert caught.value.problem == "not a number"


def test_a_bench_that_cannot_be_made_is_refused_in_its_own_words():
    with (
        pytest.raises(ValueError, match="model: expected 'smollm2'"),
        IsolatedBench(crashing.refuse, "model: expected 'smollm2'"),
    ):
        pass
    with pytest.raises(MeasureError, match="ended with status 3, before it could measure"), IsolatedBench(crashing.die):
        pass


def test_a_process_that_dies_before_it_measures_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("truffle.autotune.setup.CALIBRATION_SECONDS", 0.1)
    monkeypatch.setattr("truffle.autotune.tune.bench_of", lambda setup: IsolatedBench(crashing.die))
    assert main(["--gpu", "none", "--workload", "llama-3.2-1b@8k"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: the process that measures ended with status 3, before it could measure: by --model")
    assert list(tmp_path.iterdir()) == []


def test_a_search_goes_on_after_each(bench, tmp_path):
    there = space()
    study = open_study(tmp_path, {}, seed=0)
    search = Search(study, there, bench, Limits(), 0.0, lambda record: None)
    search.plan()
    for tables in (crashing.SEGFAULT, crashing.NAN, crashing.NO_MEMORY):
        study.enqueue_trial({"K": 10, "L": tables}, user_attrs={"origin": "paper"})
    assert search.run(Stopping(9, 60)) == "trials"
    failed = {r.L: r.reason for r in search.judged() if r.status == "failed"}
    assert [failed[tables].split(":")[0].split(" in ")[0] for tables in sorted(failed)] == [
        "the process that measures was ended by SIGSEGV", "out of memory", "kl",
    ]  # fmt: skip


def test_it_ends_with_whoever_asks_even_amid_a_measurement():
    script = (
        "from tests.autotune import crashing\nfrom tests.autotune.test_isolation import config\n"
        "from truffle.autotune.isolation import IsolatedBench\n"
        "bench = IsolatedBench(crashing.make)\nbench.start()\nprint(bench._process.pid, flush=True)\n"
        f"bench.measure(config({crashing.HANGS}), 'kl')\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert _ends(child, within_s=30)


def _ends(pid: int, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False
