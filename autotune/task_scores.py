"""Scores of a method on tasks, for limits that speak of them: the exact readings are made once."""

from __future__ import annotations

from statistics import mean

from truffle.bench.task_accuracy import SEED
from truffle.bench.task_answers import Reading, answers, read
from truffle.bench.tasks.registry import TASKS
from truffle.bench.tasks.sample import encoder, make
from truffle.model.config import DecodeConfig
from truffle.model.weights import LoadedModel

SAMPLES = 5  # of each task, decoded as one batch


class TaskMeter:
    """Asks the same samples of every method."""

    def __init__(self, model: LoadedModel, tasks: tuple[str, ...], context: int, threads: int) -> None:
        """Raises ValueError where the context is too short for a task."""
        self._model, self._tokenizer, self._threads = model, model.tokenizer(), threads
        samples = range(SAMPLES)
        self._made = {
            name: [make(TASKS[name], encoder(self._tokenizer), context, SEED, index) for index in samples]
            for name in tasks
        }
        self._readings: dict[str, list[Reading]] = {}

    def scores(self, config: DecodeConfig) -> dict[str, float]:
        """The mean score by task, 0 to 100."""
        return {name: self._score(name, config) for name in self._made}

    def _score(self, task: str, config: DecodeConfig) -> float:
        if task not in self._readings:
            self._readings[task] = [read(self._model, sample, "A", self._threads) for sample in self._made[task]]
        found = answers(self._model, self._tokenizer, self._readings[task], config)
        return mean(float(answer["score"]) for answer in found)
