"""Where the team's threads may run, as the kernel of the system tells it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("truffle.kernels.isa", reason="the native extension is not built", exc_type=ImportError)
if sys.platform != "linux":
    pytest.skip("only Linux tells where threads may run", allow_module_level=True)

from truffle.kernels import registry

REPOSITORY = Path(__file__).parents[2]
WHOLE = sorted(os.sched_getaffinity(0))


def workers() -> dict[str, list[int]]:
    """CPUs that each thread of the team may use, by name."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        name = (task / "comm").read_text().strip()
        if name.startswith("truffle-"):
            found[name] = sorted(os.sched_getaffinity(int(task.name)))
    return found


def workers_after(threads: int, pinning: str, done) -> dict[str, list[int]]:
    """Call until `done(workers)`; a worker that is not needed does not move, so that one call may not do."""
    contract = registry.contract("build_tables")
    arguments = contract.arguments(contract.cases[1])
    deadline = time.monotonic() + 60
    while True:
        registry.get("build_tables", "cpu_native")(**arguments, threads=threads, pinning=pinning)
        found = {name: cpus for name, cpus in workers().items() if int(name.split("-")[1]) < threads}
        if done(found) or time.monotonic() > deadline:
            return found


def test_pinned_workers_stay_on_a_cpu_each_and_float_again():
    before = sorted(os.sched_getaffinity(0))
    threads = len(WHOLE) + 2
    pinned = workers_after(threads, "cores", lambda found: all(len(cpus) == 1 for cpus in found.values()))
    assert len(pinned) == threads - 1
    places = [pinned[f"truffle-{place}"] for place in range(1, threads)]
    assert all(cpus[0] in WHOLE and len(cpus) == 1 for cpus in places)
    assert len({cpus[0] for cpus in places[: len(WHOLE)]}) == len(WHOLE), "no CPU twice before each was taken"
    assert places[len(WHOLE)] == places[0], "more threads than CPUs go round again"
    assert sorted(os.sched_getaffinity(0)) == before, "the caller's own thread is not moved"
    floating = workers_after(threads, "none", lambda found: all(cpus == WHOLE for cpus in found.values()))
    assert all(cpus == WHOLE for cpus in floating.values())


@pytest.mark.skipif(len(WHOLE) < 2, reason="needs two CPUs")
def test_only_cpus_of_the_process_are_taken():
    script = f"""
import os
os.sched_setaffinity(0, {{{WHOLE[-1]}}})
from tests.kernels.test_pinning import workers_after
for pinning in ("cores", "none", "cores"):
    found = workers_after(4, pinning, lambda found: len(found) == 3)
    assert set(map(tuple, found.values())) == {{({WHOLE[-1]},)}}, found
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("op", ["hash_codes", "build_tables", "retrieve", "sparse_attend", "dense_attend"])
def test_pinning_does_not_change_results(op):
    contract = registry.contract(op)
    got, want = (contract.arguments(contract.cases[1]) for _ in range(2))
    registry.get(op, "reference")(**want)
    registry.get(op, "cpu_native")(**got, threads=3, pinning="cores")
    assert contract.compare(got, want) is None


def test_unknown_pinning_is_refused():
    contract = registry.contract("build_tables")
    arguments = contract.arguments(contract.cases[1])
    with pytest.raises(ValueError, match="pinning: expected one of none, cores"):
        registry.get("build_tables", "cpu_native")(**arguments, pinning="numa")
    with pytest.raises(ValueError, match="pinning: expected none or cores"):
        registry.get("build_tables", "cpu_native").function(**arguments, pinning="numa")
