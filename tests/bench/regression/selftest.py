"""The gate's live proof, `make gate-selftest`: three candidates are made of the files as they are, and gated.

An unchanged one has to pass; one whose `retrieve` takes 1.3 times as long has to fail for its time; one whose keys
are weighted by 1/u^2 rather than 1/u, which all implementations agree on, has to fail for its figures. Changes are
made to throw-away commits: nothing in the code knows of this. A verdict of "inconclusive" is no proof either way; it is
told, and makes this exit with 3.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from truffle.bench.regression import trees


@dataclass(frozen=True)
class Proof:
    """A change, what is gated, and how it has to end: status of a benchmark, and exit code."""

    name: str
    path: str
    before: str
    after: str
    ops: str
    benchmark: str
    status: str
    code: int


SLOW = """started = __import__("time").perf_counter()
        self.function(*args, **kwargs)
        if self.op == "retrieve":
            due = started + 1.3 * (__import__("time").perf_counter() - started)
            while __import__("time").perf_counter() < due:
                pass"""

LAW = "law.log_inclusion_at(cells)"

PROOFS = (
    Proof("unchanged", "", "", "", "retrieve", "retrieve/cpu_native", "same", 0),
    Proof("1.3 times slower", "kernels/registry.py", "self.function(*args, **kwargs)", SLOW, "retrieve",
          "retrieve/cpu_native", "slower", 1),
    Proof("less accurate", "kernels/collision.py", LAW, f"2 * {LAW}", "sparse_attend",
          "sparse_attend/cpu_native", "worse", 1),
)  # fmt: skip


def main() -> int:
    base, codes = trees.working_tree(), []
    for proof in PROOFS:
        print(f"== {proof.name}: expected {proof.status}, exit {proof.code}", flush=True)
        codes.append(_verdict(proof, *_gated(proof, base)))
    return max(codes, key=(0, 3, 1).index)


def _gated(proof: Proof, base: str) -> tuple[int, dict[str, str]]:
    """The gate's exit code, and statuses by benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gate.json"
        command = [sys.executable, "-m", "truffle.bench", "gate", "--base", base, "--candidate", changed(base, proof)]
        code = subprocess.run([*command, "--ops", proof.ops, "--json", str(file)], cwd=trees.ROOT).returncode
        found = json.loads(file.read_text())["benchmarks"] if file.exists() else []
    return code, {row["name"]: row["status"] for row in found}


def _verdict(proof: Proof, code: int, statuses: dict[str, str]) -> int:
    status = statuses.get(proof.benchmark, "not measured")
    if (code, status) == (proof.code, proof.status):
        print(f"== {proof.name}: proved", flush=True)
        return 0
    print(f"== {proof.name}: NOT proved, {proof.benchmark} is {status}, exit {code}", flush=True)
    return 3 if code == 3 or status == "uncertain" else 1


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
