"""The gate's live proof, `make gate-selftest`: three candidates are made of the files as they are, and gated.

An unchanged one has to pass; one whose `retrieve_attend` takes 1.3 times as long has to fail for its time; one whose
keys the tabulated law weights by 1/u^2 rather than 1/u has to fail for its figures. Changes are
made to throw-away commits: nothing in the code knows of this. A verdict of "inconclusive" is no proof either way; it is
told, and makes this exit with 3.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from truffle.bench.regression import summary, trees
from truffle.bench.regression.comparison import compare, exit_code
from truffle.bench.tables import show

OP, BENCHMARK = "retrieve_attend", "retrieve_attend/cpu_native"
THRESHOLD = 0.1


@dataclass(frozen=True)
class Proof:
    """A change to a file, and what has to become of the benchmark and of the whole."""

    name: str
    path: str
    before: str
    after: str
    status: str
    code: int


SLOW = """started = __import__("time").perf_counter()
        self.function(*args, **kwargs)
        if self.op == "retrieve_attend":
            due = started + 1.3 * (__import__("time").perf_counter() - started)
            while __import__("time").perf_counter() < due:
                pass"""

LAW = "law.log_inclusion_at(cells)"

PROOFS = (
    Proof("unchanged", "", "", "", "same", 0),
    Proof("slower", "kernels/registry.py", "self.function(*args, **kwargs)", SLOW, "slower", 1),
    Proof("inaccurate", "kernels/collision.py", LAW, f"2 * {LAW}", "worse", 1),
)


def main() -> int:
    base = trees.working_tree()
    commits = {proof.name: changed(base, proof) for proof in PROOFS}
    with trees.built({"base": base} | commits) as built:
        codes = [_proved(proof, {"base": built["base"], "candidate": built[proof.name]}) for proof in PROOFS]
    return max(codes, key=(0, 3, 1).index)


def _proved(proof: Proof, both: Mapping[str, Path]) -> int:
    """0 if the gate says of the change what it has to, 3 if it says nothing, else 1."""
    print(f"== {proof.name}: expected {proof.status}, exit {proof.code}", flush=True)
    rows = compare(both, (OP,), THRESHOLD, (), print)
    show(summary.table(rows))
    print(summary.headline(rows, THRESHOLD))
    code, status = exit_code(rows), {row.name: row.status for row in rows}.get(BENCHMARK)
    if (code, status) == (proof.code, proof.status):
        print(f"== {proof.name}: proved", flush=True)
        return 0
    print(f"== {proof.name}: NOT proved: {status}, exit {code}", flush=True)
    return 3 if code == 3 else 1


def changed(base: str, proof: Proof) -> str:
    """A commit of `base` with the proof's change; a test holds that every change still finds its place."""
    if not proof.before:
        return base
    text = _git("show", f"{base}:{proof.path}")
    assert text.count(proof.before) == 1, f"{proof.path} has changed: {proof.before!r}"
    with tempfile.TemporaryDirectory() as folder:
        index = os.environ | {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        blob = _git("hash-object", "-w", "--stdin", given=text.replace(proof.before, proof.after))
        _git("read-tree", base, env=index)
        _git("update-index", "--cacheinfo", f"100644,{blob.strip()},{proof.path}", env=index)
        return trees.commit_tree(_git("write-tree", env=index).strip(), base)


def _git(*arguments: str, given: str | None = None, env: dict[str, str] | None = None) -> str:
    command = ["git", "-C", str(trees.ROOT), *arguments]
    return subprocess.run(command, input=given, env=env, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
