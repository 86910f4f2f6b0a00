"""A process of one revision: it makes benchmarks, tells their figures and times them, as a line of JSON asks it to.

It starts its own replies with its folder, so that it can be told from the installed checkout.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any, TextIO

WARM_UP_CALLS = 2


def main() -> None:
    """Answer what stdin asks until it ends."""
    replies = _own_stdout()
    import torch

    from truffle.bench.regression import benchmarks
    from truffle.kernels import _native

    torch.set_num_threads(benchmarks.THREADS)
    _say(replies, {"folders": [str(Path(module.__file__ or "").resolve()) for module in (benchmarks, _native)]})
    for line in sys.stdin:
        _say(replies, _answer(json.loads(line)))


def _own_stdout() -> TextIO:
    """Where replies go; whatever libraries print goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def _say(replies: TextIO, answer: dict[str, Any]) -> None:
    print(json.dumps(answer), file=replies, flush=True)


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    from truffle.bench.allocations import leaked_bytes
    from truffle.bench.regression import benchmarks

    try:
        if asked["do"] == "names":
            return {"names": benchmarks.names()}
        benchmark = _made(asked["name"])
        if asked["do"] == "figures":
            figures = benchmark.figures() | {"leaked_bytes": leaked_bytes(benchmark.call)}
            return {"figures": figures, "workload": benchmark.workload}
        return {"seconds": _time(asked["name"], asked["calls"])}
    except Exception as error:  # the benchmark is reported broken; the others go on
        return {"error": f"{type(error).__name__}: {error}"}


def _time(name: str, calls: int) -> float:
    """Median seconds of so many calls, after an untimed one: caches hold what another process left there."""
    call, taken = _made(name).call, []
    call()
    for _ in range(calls):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


@cache
def _made(name: str) -> Any:
    from truffle.bench.regression import benchmarks

    made = benchmarks.make(name)
    for _ in range(WARM_UP_CALLS):
        made.call()
    return made


if __name__ == "__main__":
    main()
