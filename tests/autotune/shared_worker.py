"""A worker of a shared study with made-up figures: python -m tests.autotune.shared_worker URL TRIALS SECONDS."""

from __future__ import annotations

import math
import sys
import time

from tests.autotune.fakes import Bench, space
from truffle.autotune.limits import Limits
from truffle.autotune.search import Search
from truffle.autotune.sharing import open_storage
from truffle.autotune.stopping import Stopping
from truffle.autotune.worker import joined

BEAT_S, SILENT_S = 1, 3


class Slow(Bench):
    """Takes its time over throughput, and says when it begins."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def measure(self, config, fidelity, repeat=0):
        if fidelity == "throughput":
            print("measuring", flush=True)
            time.sleep(self._seconds)
        return super().measure(config, fidelity, repeat)


def main(url: str, trials: str, seconds: str) -> None:
    study = joined(open_storage(url, BEAT_S, SILENT_S), None)
    search = Search(study, space(), Slow(float(seconds)), Limits(), 0.0, lambda record: None)
    print(search.run(Stopping(int(trials), math.inf)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
