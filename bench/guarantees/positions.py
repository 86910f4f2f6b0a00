"""Queries of exact decoding with all that they could attend to, at positions apart from each other in several texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from truffle.bench import text
from truffle.bench.dense_run import DenseRun, run_dense
from truffle.model.methods.choosing.selector import View, view_of
from truffle.model.selecting_parameters import SelectingParameters
from truffle.model.weights import LoadedModel

APART = 8  # tokens from one position to the next
EVERY = 4  # of the layers that do not attend everything
SHARED = SelectingParameters()  # sink, window and dense layers


@dataclass(frozen=True)
class Position:
    """A place in a text: what one decoded token's heads see, by layer."""

    name: str
    views: dict[int, View]


def positions(model: LoadedModel, context: int, texts: int, each: int, threads: int) -> Iterator[Position]:
    """`each` positions, teacher-forced, in the last tokens of each of `texts` stretches of `context` tokens."""
    steps = APART * each
    for number, tokens in enumerate(text.windows(model.tokenizer(), texts, context)):
        run = run_dense(model, tokens, steps, threads)
        for step in range(APART - 1, steps, APART):
            yield Position(f"text {number} step {step}", {layer: _view(run, layer, step) for layer in _layers(run)})


def _layers(run: DenseRun) -> list[int]:
    return [layer for layer in range(len(run.keys)) if layer not in SHARED.dense_layers][::EVERY]


def _view(run: DenseRun, layer: int, step: int) -> View:
    """The keys of prompt and tokens fed up to `step`."""
    fed = [steps[layer] for steps in run.steps[: step + 1]]
    keys = torch.cat([run.keys[layer], *(new.keys.transpose(0, 1) for new in fed)], 1)
    values = torch.cat([run.values[layer], *(new.values.transpose(0, 1) for new in fed)], 1)
    return view_of(fed[-1].q[0], keys, values, SHARED.sink, SHARED.window)


def repeated(view: View, draws: int) -> View:
    """The same with every query `draws` times in a row, so that one choice draws that often."""
    return View(view.q.repeat_interleave(draws, 1), view.keys, view.values, view.fixed_keys, view.fixed_values)
