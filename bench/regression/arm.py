"""A fresh process that runs a revision's worker, and is asked one thing at a time."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LONGEST_S = 600.0  # of an answer: Numba compiles at the first

# An editable install would lead to the checkout it was made in, whatever the path says.
START = """import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in finder.__module__]
sys.path.insert(0, sys.argv[1])
from truffle.bench.regression.worker import main
main()
"""


class Arm:
    """A worker of the revision whose worktree is `tree`; one that has died is started again."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the arm
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(self._tree)],
            cwd=self._tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, bufsize=0,
            env=os.environ | {"OMP_WAIT_POLICY": "passive"}, start_new_session=True,
        )  # fmt: skip
        self._ready = False

    def ask(self, **question: Any) -> dict[str, Any]:
        """The worker's answer; `error` in it says why there is none."""
        self.send(**question)
        return self.receive()

    def send(self, **question: Any) -> None:
        """Ask, and go on; `receive` gets the answer."""
        self._await_ready()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """The answer to what was sent."""
        line = self._line()
        if line:
            return json.loads(line)
        self.close()
        died = f"its process ended with {self._process.returncode}: {self._last_words()}"
        self._start()
        return {"error": died}

    def _await_ready(self) -> None:
        if self._ready:
            return
        line = self._line()
        if not line:
            self.close()
            raise RuntimeError(f"the worker of {self._tree} does not start: {self._last_words()}")
        outside = [path for path in json.loads(line)["folders"] if not Path(path).is_relative_to(self._tree.resolve())]
        if outside:
            raise RuntimeError(f"the worker of {self._tree} imported {outside[0]}, which is not its own")
        self._ready = True

    def _line(self) -> bytes:
        """A line, or nothing from one that has ended or takes too long."""
        stdout = self._process.stdout
        assert stdout is not None
        return stdout.readline() if select.select([stdout], [], [], LONGEST_S)[0] else b""

    def _last_words(self) -> str:
        self._log.seek(0)
        return " | ".join(self._log.read().strip().splitlines()[-3:])

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
