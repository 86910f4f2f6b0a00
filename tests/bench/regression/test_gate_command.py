"""python -m truffle.bench gate: wrong usage, throw-away commits and worktrees, and a live worker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.regression import selftest
from truffle.bench.__main__ import main
from truffle.bench.gate_command import share
from truffle.bench.regression import arm, benchmarks, trees
from truffle.bench.regression.figures import SLACK
from truffle.kernels import registry

pytestmark = pytest.mark.skipif(not (trees.ROOT / ".git").exists(), reason="not a git checkout")


def git(*arguments):
    return subprocess.run(["git", "-C", trees.ROOT, *arguments], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("base", "options", "named"),
    [("no-such-revision", [], "base: "), ("HEAD", ["--json", "no/such/folder/gate.json"], "json: "),
     ("HEAD", ["--markdown", "bench"], "markdown: "),
     ("HEAD", ["--threshold", "fast"], "threshold: "), ("HEAD", ["--threshold", "0%"], "threshold: ")],
)  # fmt: skip
def test_wrong_usage_is_one_line_and_exit_2_before_anything_is_built(base, options, named, capsys, monkeypatch):
    monkeypatch.setattr(trees, "built", lambda commits: pytest.fail("built"))
    assert main(["gate", "--base", base, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {named}")
    assert error.count("\n") == 1


def test_a_base_is_needed(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["gate"])
    assert stopped.value.code == 2


def test_a_base_from_before_the_gate_is_refused(capsys):
    first = subprocess.run(
        ["git", "-C", trees.ROOT, "rev-list", "--max-parents=0", "HEAD"], capture_output=True, text=True
    )
    assert main(["gate", "--base", first.stdout.split()[0]]) == 2
    assert "which measures it" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "value"), [("10%", 0.1), ("0.1", 0.1), ("2.5%", 0.025), (".5", 0.5)])
def test_thresholds_are_shares(text, value):
    assert share(text) == pytest.approx(value)


def test_every_operation_that_runs_here_is_gated():
    kinds = {name.partition("/")[0] for name in benchmarks.names()}
    assert kinds == {op for op in registry.ops() if None in registry.usable(op).values()} | {"decode"}


def test_the_working_tree_is_measured_with_new_files_and_left_as_it_is():
    before = git("status", "--porcelain")
    new = trees.ROOT / "bench" / f"new_{os.getpid()}.py"
    new.touch()
    try:
        commit = trees.working_tree()
    finally:
        new.unlink()
    assert f"bench/{new.name}" in git("ls-tree", "-r", "--name-only", commit).split()
    assert git("status", "--porcelain") == before


@pytest.mark.parametrize("proof", [proof for proof in selftest.PROOFS if proof.before], ids=lambda proof: proof.name)
def test_the_selftests_changes_still_find_their_place(proof):
    commit = selftest.changed(trees.working_tree(), proof)
    text = git("show", f"{commit}:{proof.path}")
    assert proof.after in text
    compile(text, proof.path, "exec")


def test_without_cmake_the_error_says_so_before_anything_is_built(monkeypatch, capsys):
    monkeypatch.setattr(trees.shutil, "which", lambda name, path: None)
    monkeypatch.setattr(trees, "_build", lambda tree, cmake: pytest.fail("built"))
    assert main(["gate", "--base", "HEAD"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: cmake: expected on the path")


def test_cmake_is_found_beside_the_interpreter(monkeypatch, tmp_path):
    """As `make install` brings it, in an environment that is not activated."""
    (tmp_path / "cmake").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")
    assert trees._cmake() == str(tmp_path / "cmake")
    (tmp_path / "cmake").unlink()
    with pytest.raises(RuntimeError, match="pip install cmake"):
        trees._cmake()


def test_worktrees_do_not_outlive_an_interrupt(monkeypatch):
    monkeypatch.setattr(trees, "_build", lambda tree, cmake: None)
    commit, seen = trees.working_tree(), []

    def interrupted():
        with trees.built({"base": commit, "candidate": commit}) as built:
            seen.extend(built.values())
            assert all((tree / "bench" / "gate_command.py").exists() for tree in built.values())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(seen) == 2
    assert not any(tree.parent.exists() for tree in seen)
    assert not any(str(tree) in git("worktree", "list") for tree in seen)


def test_a_worker_tells_figures_and_times_and_survives_a_crash(tmp_path):
    extension = pytest.importorskip("truffle.kernels._native", reason="the native extension is not built")
    for folder in ("truffle", "kernels", "bench", "model"):
        shutil.copytree(trees.ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(trees.ROOT / "pyproject.toml", tmp_path)
    shutil.copy(extension.__file__, tmp_path / "kernels")
    worker = arm.Arm(tmp_path)
    try:
        assert "merge_states/reference" in worker.ask(do="names")["names"]
        figures = worker.ask(do="figures", name="merge_states/reference")["figures"]
        assert figures["bytes_moved"] > 0
        assert figures["leaked_bytes"] <= SLACK["leaked_bytes"].amount
        assert worker.ask(do="time", name="merge_states/reference", calls=3)["seconds"] > 0
        assert "KeyError" in worker.ask(do="time", name="no/such", calls=3)["error"]
        worker._process.kill()
        assert "ended with -9" in worker.ask(do="names")["error"]
        assert "names" in worker.ask(do="names")
    finally:
        worker.close()


def test_a_worker_of_another_checkout_is_refused(tmp_path):
    """As when an editable install leads elsewhere."""
    (tmp_path / "truffle").symlink_to(trees.ROOT / "truffle")
    worker = arm.Arm(Path(tmp_path))
    try:
        with pytest.raises(RuntimeError, match=r"is not its own|does not start"):
            worker.ask(do="names")
    finally:
        worker.close()
    assert sys.path[0] != str(tmp_path)


ANSWERS = """import carried, json
def main():
    print(json.dumps({"folders": []}), flush=True)
    input()
    print(json.dumps({"found": carried.NAME}), flush=True)
"""


def test_a_worker_is_its_trees_own_and_finds_packages_where_this_process_does(tmp_path, monkeypatch):
    for folder in ("tree/truffle/bench/regression", "packages/truffle"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "tree/truffle/__init__.py").touch()
    (tmp_path / "packages/truffle/__init__.py").write_text("raise RuntimeError('not of the tree')")
    (tmp_path / "packages/carried.py").write_text("NAME = 'carried'")
    (tmp_path / "tree/truffle/bench/regression/worker.py").write_text(ANSWERS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    worker = arm.Arm(tmp_path / "tree")
    try:
        assert worker.ask(do="names") == {"found": "carried"}
    finally:
        worker.close()
