"""Methods on texts of several kinds, teacher-forced: one exact run of each text serves them all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from truffle.bench import text
from truffle.bench.accuracy import measure, summarise
from truffle.bench.dense_run import DenseRun, run_dense
from truffle.bench.journal import Journal, Record
from truffle.bench.method_names import described, line_names
from truffle.bench.task_methods import Contender
from truffle.model.weights import LoadedModel

BLOCK = 16
ALL = "all"
FIGURES = ("kl", "top1", "loss", "dense_loss", "output_error", "density", "rows")
CONTENDER = ("method", "asked_density", "parameters", "store_format")
SETTINGS = ("op", "model", "device", "dtype", "context", "steps", "text", "sample", "block", *CONTENDER)


@dataclass(frozen=True)
class TextSetting:
    """What methods are measured on.

    Attributes:
        texts: kinds of text; samples: stretches of each.
        context: tokens read exactly; steps: those decoded behind them.
    """

    texts: tuple[str, ...]
    samples: int
    context: int
    steps: int

    @property
    def blocks(self) -> int:
        """Steps are told in means of BLOCK, the last block may be shorter."""
        return -(-self.steps // BLOCK)


def measure_texts(
    model: LoadedModel, tokenizer: Any, contenders: list[Contender], setting: TextSetting, journal: Journal
) -> Iterator[Record]:
    """A record for each text, sample, contender and block of steps; what the journal has is taken from there."""
    for kind in setting.texts:
        stretches = text.windows(tokenizer, setting.samples, setting.context + setting.steps, kind)
        for sample, tokens in enumerate(stretches):
            run: DenseRun | None = None
            for contender in contenders:
                asked = _settings(model, kind, sample, contender, setting)
                known = [journal.find(asked | {"block": block}) for block in range(setting.blocks)]
                if None not in known:
                    yield from known
                    continue
                run = run or run_dense(model, tokens, setting.steps, contender.config.execution.threads)
                for block, means in enumerate(_blocks(measure(model, run, contender.config, sample))):
                    record = asked | {"block": block} | means
                    journal.add(record)
                    yield record


def _settings(model: LoadedModel, kind: str, sample: int, contender: Contender, setting: TextSetting) -> Record:
    weights, config = model.weights, contender.config
    values = (
        "accuracy_text", model.id, weights.device.type, str(weights.dtype).removeprefix("torch."), setting.context,
        setting.steps, kind, sample, None, config.method, contender.density, config.parameters.model_dump_json(),
        config.execution.store_format,
    )  # fmt: skip
    return dict(zip(SETTINGS, values, strict=True))


def _blocks(steps: list[Record]) -> Iterator[Record]:
    """Means of each figure over blocks of steps that have it."""
    for first in range(0, len(steps), BLOCK):
        found = {name: [step[name] for step in steps[first : first + BLOCK]] for name in FIGURES}
        known = {name: [value for value in values if value is not None] for name, values in found.items()}
        yield {name: sum(values) / len(values) if values else None for name, values in known.items()}


def summarise_texts(records: list[Record]) -> list[Record]:
    """A flat row a kind of text and contender, and over all kinds where there are several: accuracy.summarise's figures
    and intervals, of samples and then blocks within each. `name` is the contender's, the same at all densities."""
    texts = list(dict.fromkeys(record["text"] for record in records))
    rows = []
    for kind in [*texts, *([ALL] if len(texts) > 1 else [])]:
        groups: dict[tuple[Any, ...], list[Record]] = {}
        for record in records:
            if kind in (record["text"], ALL):
                groups.setdefault(tuple(record[name] for name in CONTENDER), []).append(record)
        rows += [_row(kind, group) for group in groups.values()]
    names = line_names(rows)
    return [row | {"name": names[described(row)]} for row in rows]


def _row(kind: str, group: list[Record]) -> Record:
    shared = {name: group[0][name] for name in SETTINGS if name not in ("op", "text", "sample", "block")}
    apart = [record | {"sample": (record["text"], record["sample"])} for record in group]
    samples = len({record["sample"] for record in apart})
    return {"op": "accuracy_text_summary", "text": kind, **shared, "samples": samples, **summarise(apart)}
