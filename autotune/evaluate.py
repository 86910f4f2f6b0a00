"""Measures the accuracy of a point, on the model at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from truffle.autotune.filling import OWN_LAYERS, with_layers
from truffle.bench import accuracy
from truffle.bench.accuracy import Setting
from truffle.bench.dense_run import DenseRun
from truffle.model.config import DecodeConfig, LshParameters, MethodParameters
from truffle.model.weights import LoadedModel

ACCURACY_FIGURES = ("kl", "kl_low", "kl_high", "top1", "perplexity_ratio", "output_error", "density", "rows")
DEVICE_STEPS = 20


class AccuracyMeter:
    """Accuracy by method, parameters and store format: it depends on nothing else, so each pair is measured once.

    The model at hand is another than the workload's, with other layers, so that a point whose dense layers fill the
    card is measured with the method's own, 0 and 16. That is on the safe side: more dense layers only leave less to
    sample. It shares the measurement with the point that fills nothing.
    """

    def __init__(self, model_id: str, setting: Setting, threads: int, say: Callable[[str], None]) -> None:
        self._model_id, self._setting, self._threads, self._say = model_id, setting, threads, say
        self._model: LoadedModel | None = None
        self._runs: list[DenseRun] = []
        self.known: dict[str, dict[str, float | None]] = {}

    def measure(self, config: DecodeConfig) -> dict[str, float | None]:
        """KL, agreement, output error, density and rows of the config's parameters and store format."""
        key = accuracy_key(config)
        if key not in self.known:
            assert self._model is not None
            here = config.execution.model_copy(update={"threads": self._threads, "batch_size": 1})
            changes = {"parameters": _measured_parameters(config), "execution": here, "implementations": {}}
            config = config.model_copy(update=changes)
            torch.set_num_threads(self._threads)
            numbered = enumerate(self._runs)
            steps = [r for sample, run in numbered for r in accuracy.measure(self._model, run, config, sample)]
            summary = accuracy.summarise(steps)
            self.known[key] = {name: summary[name] for name in ACCURACY_FIGURES}
        return self.known[key]

    def remember(self, config: DecodeConfig, figures: dict[str, Any]) -> None:
        """Take figures that were measured before."""
        known = {name: figures[name] for name in ACCURACY_FIGURES}
        self.known.setdefault(accuracy_key(config), known)

    def prepare(self) -> None:
        """Load the model and make the exact runs.

        Raises:
            ValueError: the model cannot be loaded, or not at that context, or the text is too short.
        """
        from truffle.model.weights import load

        model = load(self._model_id)
        self._say(f"exact runs on {self._model_id}: {self._setting.samples} x {self._setting.context} tokens")
        torch.set_num_threads(self._threads)
        self._runs = accuracy.dense_runs(model, self._setting, self._threads)
        self._model = model


def accuracy_key(config: DecodeConfig) -> str:
    """What accuracy depends on, as text."""
    return f"{config.method} {_measured_parameters(config).model_dump_json()} {config.execution.store_format}"


def _measured_parameters(config: DecodeConfig) -> MethodParameters:
    p = config.parameters
    return with_layers(p, OWN_LAYERS) if isinstance(p, LshParameters) else p
