"""How well methods answer tasks: one exact reading of a prompt, from which every method goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from truffle.bench.journal import Journal, Record
from truffle.bench.task_methods import Contender
from truffle.bench.tasks.sample import Sample, Task, encoder, make
from truffle.bench.tasks.scores import string_match_all
from truffle.model.config import DecodeConfig, Execution
from truffle.model.generate import DensityMeter
from truffle.model.llama import Decoder
from truffle.model.methods.dense import DenseLayer
from truffle.model.weights import LoadedModel

SEED = 0
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
            token (METHODS.md 0.3).
    """

    context: int
    samples: int
    setup: Literal["A", "B"]


@dataclass(frozen=True)
class Reading:
    """A sample's exact reading: keys and values by layer, [Hkv, n, d], the last logits, [1, vocabulary], and what is
    still to be read, int64."""

    sample: Sample
    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    logits: torch.Tensor
    rest: torch.Tensor


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
    """A record for each task, sample and contender, in this order: its score, density and prediction.

    What the journal has is taken from there, and a sample of which it has everything is not read at all.
    """
    for task in tasks:
        for index in range(setting.samples):
            yield from measure_sample(model, tokenizer, task, index, contenders, setting, journal)


def measure_sample(
    model: LoadedModel,
    tokenizer: Any,
    task: Task,
    index: int,
    contenders: list[Contender],
    setting: TaskSetting,
    journal: Journal,
) -> Iterator[Record]:
    """A record for each contender of one sample of a task."""
    reading = None
    for contender in contenders:
        asked = _settings(model, task, index, contender, setting)
        record = journal.find(asked)
        if record is None:
            if reading is None:
                sample = make(task, encoder(tokenizer), setting.context, SEED, index)
                reading = read(model, sample, setting.setup, contender.config.execution.threads)
            where = {"device": model.weights.device.type}  # told, but not what tells records apart
            record = asked | where | answer(model, tokenizer, reading, contender.config)
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


def read(model: LoadedModel, sample: Sample, setup: str, threads: int) -> Reading:
    """Read exactly what the setup lets be read so."""
    given, rest = (sample.context_ids, sample.question_ids) if setup == "B" else (sample.prompt_ids, torch.tensor([]))
    decoder = Decoder(model.shape, model.weights, DecodeConfig(execution=Execution(threads=threads)))
    logits = decoder.prefill([given])
    contents = [layer.contents(0) for layer in decoder.caches if isinstance(layer, DenseLayer)]
    keys, values = ([pair[side] for pair in contents] for side in (0, 1))
    return Reading(sample, keys, values, logits, rest)


def answer(model: LoadedModel, tokenizer: Any, reading: Reading, config: DecodeConfig) -> Record:
    """Go on from a reading by a method: the rest of the prompt, then the likeliest tokens.

    Stops at an end token, at the task's limit, and when all answers are named, since no score can fall.
    """
    decoder = Decoder(model.shape, model.weights, config)
    decoder.adopt([[keys] for keys in reading.keys], [[values] for values in reading.values])
    decoder.observer = meter = DensityMeter()
    logits = reading.logits
    for token in reading.rest:
        logits = decoder.step(token[None])
    prediction, produced = _continued(decoder, logits, model, tokenizer, reading.sample)
    score = string_match_all(prediction, reading.sample.answers)
    return {"score": score, "density": meter.density, "tokens": produced, "prediction": prediction}


def _continued(
    decoder: Decoder, logits: torch.Tensor, model: LoadedModel, tokenizer: Any, sample: Sample
) -> tuple[str, int]:
    """The text of the continuation and its tokens' number."""
    produced: list[int] = []
    text = ""
    while True:
        token = logits.argmax(-1)
        if int(token) in model.end_tokens:
            break
        produced.append(int(token))
        text = tokenizer.decode(produced)
        if len(produced) == sample.tokens_to_generate or string_match_all(text, sample.answers) == 100:
            break
        logits = decoder.step(token)
    return text, len(produced)
