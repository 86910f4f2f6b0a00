"""Throw-away git worktrees of revisions, each with a native build; none outlives Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from truffle.kernels.checks import ArgumentError

ROOT = Path(__file__).resolve().parents[2]
NATIVE = "kernels/native"
WORKER = "bench/regression/worker.py"


def commit_of(revision: str, argument: str) -> str:
    """The commit that a revision names.

    Raises:
        ArgumentError: it names none, or one from before there was a gate.
    """
    found = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", check=False)
    if not found:
        raise ArgumentError(f"{argument}: expected a revision of the git checkout {ROOT}, got {revision!r}")
    if not _git("ls-tree", "--name-only", found, WORKER):
        raise ArgumentError(f"{argument}: expected a revision with {WORKER}, which measures it, got {revision!r}")
    return found


def working_tree() -> str:
    """A commit of the files as they are, new ones that git does not ignore too; no branch or index learns of it."""
    with tempfile.TemporaryDirectory(prefix="truffle-index-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git("read-tree", "HEAD", env=index)
        _git("add", "--all", env=index)
        return commit_tree(_git("write-tree", env=index), "HEAD")


def commit_tree(tree: str, parent: str) -> str:
    """A commit of a tree that no branch names; git collects it in time."""
    author = ("-c", "user.name=gate", "-c", "user.email=gate@localhost")
    return _git(*author, "commit-tree", tree, "-p", parent, "-m", "What the gate measures")


@contextmanager
def built(commits: Mapping[str, str]) -> Iterator[dict[str, Path]]:
    """A built worktree a commit, by the names of `commits`, while the block runs.

    Raises:
        RuntimeError: there is no cmake, or one does not build; the message ends with what the compiler said.
    """
    cmake = _cmake()
    folder = Path(tempfile.mkdtemp(prefix="truffle-gate-"))
    trees = {name: folder / name for name in commits}
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        sources: dict[str, Path] = {}
        for name, commit in commits.items():
            _git("worktree", "add", "--quiet", "--detach", str(trees[name]), commit)
            same = sources.setdefault(_git("rev-parse", f"{commit}:{NATIVE}"), trees[name])
            _build(trees[name], cmake) if same == trees[name] else _copy_extension(same, trees[name])
        yield trees
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _git("worktree", "prune")
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _cmake() -> str:
    """That of this interpreter's environment, which need not be on the path, or the system's."""
    found = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if not found:
        raise RuntimeError("cmake: expected on the path or beside this python, found neither: pip install cmake")
    return found


def _build(tree: Path, cmake: str) -> None:
    import nanobind

    to = tree / "build" / "gate"
    configure = [cmake, "-S", str(tree / NATIVE), "-B", str(to), "-DCMAKE_BUILD_TYPE=Release"]
    configure += [f"-DPython_EXECUTABLE={sys.executable}", f"-Dnanobind_DIR={nanobind.cmake_dir()}"]
    for command in (configure, [cmake, "--build", str(to), "--parallel", str(os.cpu_count())]):
        _run(command, tree / "build.log")
    for extension in to.glob("_native*.so"):
        shutil.copy(extension, tree / "kernels")


def _copy_extension(source: Path, tree: Path) -> None:
    """Sources are the same, and so is what is built of them."""
    for extension in (source / "kernels").glob("_native*.so"):
        shutil.copy(extension, tree / "kernels")


def _run(command: list[str], log: Path) -> None:
    with log.open("a") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        try:
            code = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # compilers too
            process.wait()
            raise
    if code:
        raise RuntimeError(f"{' '.join(command[:3])} failed:\n" + "\n".join(log.read_text().splitlines()[-20:]))


def _git(*arguments: str, check: bool = True, env: Mapping[str, str] | None = None) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | (env or {}))
    if check and done.returncode:
        raise RuntimeError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()
