"""Measures the accuracy of a point, on the model at hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch

from truffle.autotune.filling import OWN_LAYERS, Sampling, adds_layers, with_layers
from truffle.autotune.task_scores import TaskMeter
from truffle.bench import accuracy
from truffle.bench.accuracy import Setting
from truffle.bench.dense_run import DenseRun
from truffle.model.config import DecodeConfig, Execution, MethodParameters
from truffle.model.weights import LoadedModel

SCREENED_LAYERS, SCREENED_STEPS = 4, 6
Names = tuple[str, ...]


class AccuracyMeter:
    """Accuracy by method, parameters and store format: it depends on nothing else.

    The model at hand is another than the workload's, with other layers, so that a point whose dense layers fill the
    card is measured with the method's own, 0 and 16. That is on the safe side: more dense layers only leave less to
    sample.
    """

    def __init__(
        self, model_id: str, setting: Setting, threads: int, tasks: tuple[str, ...], say: Callable[[str], None]
    ) -> None:
        self._model_id, self._setting, self._threads, self._say = model_id, setting, threads, say
        self._task_names = tasks
        self._tasks: TaskMeter | None = None
        self._model: LoadedModel | None = None
        self._runs: list[DenseRun] = []

    def statistics(self, config: DecodeConfig) -> dict[str, float | None]:
        """What the method finds by a few layers' own queries and keys, and how far that is off."""
        config, model = self._here(config), self._loaded
        layers = screened_layers(model.shape.layers, config)
        steps = accuracy.replay(model, self._runs[0], config, 0, layers, SCREENED_STEPS)
        found = accuracy.summarise(steps)
        return {"screen_error": found["output_error"], "density": found["density"], "rows": found["rows"]}

    def output_error(self, config: DecodeConfig) -> dict[str, Any]:
        """Output error, density and rows, by exact inputs of every layer; `samples` are those of texts and steps."""
        return self._summary(accuracy.replay, config, ("output_error", "density", "rows"), ("output_error", "density"))

    def kl(self, config: DecodeConfig) -> dict[str, Any]:
        """KL with its interval, agreement, and perplexity over that of exact decoding; `samples` as above."""
        figures = ("kl", "kl_low", "kl_high", "top1", "perplexity_ratio")
        return self._summary(accuracy.decode, config, figures, ("kl", "top1"))

    def tasks(self, config: DecodeConfig) -> dict[str, str]:
        """Scores, 0 to 100 by task, as JSON."""
        assert self._tasks is not None
        return {"scores": json.dumps(self._tasks.scores(self._here(config)))}

    def _summary(
        self, measure: Callable[..., list[dict[str, Any]]], config: DecodeConfig, figures: Names, raw: Names
    ) -> dict[str, Any]:
        here, runs = self._here(config), enumerate(self._runs)
        steps = [step for sample, run in runs for step in measure(self._loaded, run, here, sample)]
        found = accuracy.summarise(steps)
        samples = {name: [step[name] for step in steps] for name in raw if steps[0][name] is not None}
        return {name: found[name] for name in figures} | {"samples": samples}

    def _here(self, config: DecodeConfig) -> DecodeConfig:
        """The config's parameters and store format, as this machine runs them."""
        torch.set_num_threads(self._threads)
        kept = config.execution.model_dump(include={"pinning", "wait_policy", "store_format"})
        here = Execution(threads=self._threads, **kept)
        changes = {"parameters": _measured_parameters(config), "execution": here, "implementations": {}}
        return config.model_copy(update=changes)

    @property
    def _loaded(self) -> LoadedModel:
        assert self._model is not None
        return self._model

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
        if self._task_names:
            self._tasks = TaskMeter(model, self._task_names, self._setting.context, self._threads)


def screened_layers(layers: int, config: DecodeConfig) -> list[int]:
    """A few layers from first to last that are not dense, or all where there are none such."""
    dense = getattr(config.parameters, "dense_layers", ())
    sparse = [layer for layer in range(layers) if layer not in dense]
    count = min(SCREENED_LAYERS, len(sparse))
    return [sparse[len(sparse) * (2 * i + 1) // (2 * count)] for i in range(count)] or list(range(layers))


def accuracy_key(config: DecodeConfig) -> str:
    """What accuracy depends on, as text."""
    return f"{config.method} {_measured_parameters(config).model_dump_json()} {config.execution.store_format}"


def _measured_parameters(config: DecodeConfig) -> MethodParameters:
    p = config.parameters
    return with_layers(p, OWN_LAYERS) if isinstance(p, Sampling) and adds_layers(p.dense_layers) else p
