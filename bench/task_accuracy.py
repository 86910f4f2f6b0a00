"""How well methods answer tasks: one exact reading of a prompt, from which every method goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from truffle.bench.journal import Journal, Record
from truffle.bench.task_answers import Reading, answers, read
from truffle.bench.task_methods import Contender
from truffle.bench.tasks.sample import Task, encoder, make
from truffle.model.weights import LoadedModel

SEED = 0
TOGETHER = 5  # samples that decode as one batch: the weights are read once a step for all of them
SETTINGS = (
    "op", "model", "dtype", "context", "setup", "seed", "task", "sample", "method", "asked_density", "parameters",
    "store_format",
)  # fmt: skip


@dataclass(frozen=True)
class TaskSetting:
    """What methods are asked.

    Attributes:
        context: tokens of a prompt and its answer, at most.
        samples: prompts a task.
        setup: A reads the whole prompt exactly; B only the context, and the question through the method, token by
            token.
    """

    context: int
    samples: int
    setup: Literal["A", "B"]


def require_room(tasks: list[Task], tokenizer: Any, context: int) -> None:
    """Raise ValueError where the context is too short for one of the tasks."""
    for task in tasks:
        make(task, encoder(tokenizer), context, SEED, 0)


def measure_tasks(
    model: LoadedModel,
    tokenizer: Any,
    tasks: list[Task],
    contenders: list[Contender],
    setting: TaskSetting,
    journal: Journal,
) -> Iterator[Record]:
    """A record for each task, sample and contender: its score, density and prediction.

    What the journal has is taken from there, and a sample of which it has everything is not read at all.
    """
    for task in tasks:
        for first in range(0, setting.samples, TOGETHER):
            samples = range(first, min(first + TOGETHER, setting.samples))
            yield from measure_samples(model, tokenizer, task, samples, contenders, setting, journal)


def measure_samples(
    model: LoadedModel,
    tokenizer: Any,
    task: Task,
    samples: range,
    contenders: list[Contender],
    setting: TaskSetting,
    journal: Journal,
) -> Iterator[Record]:
    """A record for each contender and sample of a task, contender by contender."""
    readings: dict[int, Reading] = {}

    def reading(sample: int, threads: int) -> Reading:
        if sample not in readings:
            made = make(task, encoder(tokenizer), setting.context, SEED, sample)
            readings[sample] = read(model, made, setting.setup, threads)
        return readings[sample]

    for contender in contenders:
        asked = [_settings(model, task, sample, contender, setting) for sample in samples]
        known = [journal.find(one) for one in asked]
        absent = [sample for sample, record in zip(samples, known, strict=True) if record is None]
        given = [reading(sample, contender.config.execution.threads) for sample in absent]
        found = iter(answers(model, tokenizer, given, contender.config) if given else [])
        where = {"device": model.weights.device.type}  # told, but not what tells records apart
        for one, record in zip(asked, known, strict=True):
            if record is None:
                record = one | where | next(found)
                journal.add(record)
            yield record


def _settings(model: LoadedModel, task: Task, index: int, contender: Contender, setting: TaskSetting) -> Record:
    config = contender.config
    values = (
        "accuracy_task", model.id, str(model.weights.dtype).removeprefix("torch."), setting.context, setting.setup,
        SEED, task.name, index, config.method, contender.density, config.parameters.model_dump_json(),
        config.execution.store_format,
    )  # fmt: skip
    return dict(zip(SETTINGS, values, strict=True))
