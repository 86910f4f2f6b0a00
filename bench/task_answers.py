"""Answers to prompts by a method, several as one batch, each from an exact reading of its prompt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from truffle.bench.journal import Record
from truffle.bench.tasks.sample import Sample
from truffle.bench.tasks.scores import string_match_all
from truffle.model.config import DecodeConfig, Execution
from truffle.model.llama import Decoder
from truffle.model.methods.base import LayerCache
from truffle.model.methods.dense import DenseLayer
from truffle.model.weights import LoadedModel


@dataclass(frozen=True)
class Reading:
    """A sample's exact reading: keys and values by layer, [Hkv, n, d], the last logits, [1, vocabulary], and the tokens
    that are still to be read."""

    sample: Sample
    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    logits: torch.Tensor
    rest: list[int]


def read(model: LoadedModel, sample: Sample, setup: str, threads: int) -> Reading:
    """Read exactly what the setup lets be read so."""
    given, rest = (sample.context_ids, sample.question_ids.tolist()) if setup == "B" else (sample.prompt_ids, [])
    decoder = Decoder(model.shape, model.weights, DecodeConfig(execution=Execution(threads=threads)))
    logits = decoder.prefill([given])
    contents = [layer.contents(0) for layer in decoder.caches if isinstance(layer, DenseLayer)]
    keys, values = ([pair[side] for pair in contents] for side in (0, 1))
    return Reading(sample, keys, values, logits, rest)


def answers(model: LoadedModel, tokenizer: Any, readings: list[Reading], config: DecodeConfig) -> list[Record]:
    """Go on from readings by a method: the rest of each prompt, then the likeliest tokens.

    An answer stops at an end token, at the task's limit, and when all that is asked for is named, since no score can
    fall.
    """
    decoder = Decoder(model.shape, model.weights, config)
    keys, values = (_by_layer([getattr(reading, side) for reading in readings]) for side in ("keys", "values"))
    decoder.adopt(keys, values)
    decoder.observer = meter = _Meter(len(readings), model.weights.device)
    found = [_Answer(reading, tokenizer, model.end_tokens) for reading in readings]
    logits = torch.cat([reading.logits for reading in readings])
    while meter.live:
        likeliest = logits.argmax(-1).tolist()
        following = [found[request].follow(token) for request, token in zip(meter.live, likeliest, strict=True)]
        going = [row for row, token in enumerate(following) if token is not None]
        if len(going) < len(following):
            decoder.keep(going)
            meter.live = [meter.live[row] for row in going]
        if going:
            logits = decoder.step(torch.tensor([following[row] for row in going], device=logits.device))
    return [answer.record() | {"density": density} for answer, density in zip(found, meter.densities(), strict=True)]


def _by_layer(by_request: list[list[torch.Tensor]]) -> list[list[torch.Tensor]]:
    return [list(parts) for parts in zip(*by_request, strict=True)]


@dataclass
class _Answer:
    """What has been said of one sample so far."""

    reading: Reading
    tokenizer: Any
    end_tokens: frozenset[int]
    fed: int = 0
    produced: list[int] = field(default_factory=list)
    text: str = ""

    def follow(self, likeliest: int) -> int | None:
        """The token to decode next, where the likeliest is known; None when all is said."""
        if self.fed < len(self.reading.rest):
            self.fed += 1
            return self.reading.rest[self.fed - 1]
        if likeliest in self.end_tokens:
            return None
        self.produced.append(likeliest)
        self.text = self.tokenizer.decode(self.produced)
        over = len(self.produced) == self.reading.sample.tokens_to_generate
        return None if over or self._score() == 100 else likeliest

    def _score(self) -> float:
        return string_match_all(self.text, self.reading.sample.answers)

    def record(self) -> Record:
        return {"score": self._score(), "tokens": len(self.produced), "prediction": self.text}


class _Meter:
    """Averages density over sparse layers, heads and steps, by request; `live` are those that decode."""

    def __init__(self, requests: int, device: torch.device) -> None:
        self.live = list(range(requests))
        self._total = torch.zeros(requests, dtype=torch.float64, device=device)
        self._count = [0] * requests

    def __call__(self, index: int, cache: LayerCache, *tensors: torch.Tensor) -> None:
        usage = cache.usage()
        if usage is None:
            return
        self._total[self.live] += usage.densities().to(self._total.device)
        for request, counted in zip(self.live, (usage.cached > 0).tolist(), strict=True):
            self._count[request] += counted * usage.attended.shape[1]

    def densities(self) -> list[float | None]:
        pairs = zip(self._total.tolist(), self._count, strict=True)
        return [total / count if count else None for total, count in pairs]
