"""What is attended exactly whatever a method samples, as it is searched: sink, window and dense layers."""

from __future__ import annotations

from typing import Any

import optuna

from truffle.autotune.filling import OWN_LAYERS, written
from truffle.model.config import PAPER_DEFAULT

SINKS, WINDOWS = (1, 64), (16, 512)  # counts: their log is asked
DENSE_LAYERS = (written(OWN_LAYERS), "0", "")
PLAIN_EXACT = {"sink": PAPER_DEFAULT.sink, "window": PAPER_DEFAULT.window, "dense_layers": written(OWN_LAYERS)}


def asked_exact(trial: optuna.Trial) -> dict[str, Any]:
    """What is attended exactly, as the sampler asks for it: sink, window, and dense layers as records write them."""
    return {
        "sink": trial.suggest_int("sink", *SINKS, log=True),
        "window": trial.suggest_int("window", *WINDOWS, log=True),
        "dense_layers": trial.suggest_categorical("dense_layers", DENSE_LAYERS),
    }
