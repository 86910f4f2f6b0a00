"""What the team's threads do between calls."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("truffle.kernels.isa", reason="the native extension is not built", exc_type=ImportError)

from truffle.kernels import registry
from truffle.kernels.waiting import SPIN_US, set_wait_policy


@pytest.fixture(autouse=True)
def parks_again():
    yield
    set_wait_policy("park")


def build_tables(threads: int) -> None:
    contract = registry.contract("build_tables")
    arguments = contract.arguments(contract.cases[1])
    want = {name: value.clone() if hasattr(value, "clone") else value for name, value in arguments.items()}
    registry.get("build_tables", "reference")(**want)
    registry.get("build_tables", "cpu_native")(**arguments, threads=threads)
    assert contract.compare(arguments, want) is None


def busy_s() -> float:
    """Processor time of the team's threads so far."""
    found = 0.0
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().startswith("truffle-"):
            found += int((task / "schedstat").read_text().split()[0]) * 1e-9
    return found


@pytest.mark.parametrize("policy", SPIN_US)
def test_results_and_callers_in_turn(policy):
    set_wait_policy(policy)
    failures = []

    def caller() -> None:
        try:
            for call in range(60):
                build_tables(threads=1 + call % 7)
                if call % 20 == 0:
                    time.sleep(0.003)  # longer than a thread spins: it parks, and is woken
        except Exception as error:
            failures.append(error)

    callers = [threading.Thread(target=caller) for _ in range(3)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    assert not failures


def test_policies_change_while_threads_wait():
    for call in range(200):
        set_wait_policy("spin" if call % 3 else "park")
        build_tables(threads=4)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="only Linux tells how long threads ran")
def test_spinning_ends():
    set_wait_policy("spin")
    build_tables(threads=4)
    time.sleep(0.2)
    before = busy_s()
    time.sleep(0.2)
    assert busy_s() - before < 0.05, "three threads that never parked would have run for 0.2 s at least"


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="wait_policy: expected one of park, spin, got 'sleep'"):
        set_wait_policy("sleep")


def test_without_the_native_kernels_nobody_waits(monkeypatch):
    monkeypatch.setattr("truffle.kernels.waiting.native", None)
    set_wait_policy("spin")
