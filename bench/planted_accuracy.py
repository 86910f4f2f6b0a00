"""Scores of methods on planted keys: one layer of one key/value head, and every query a query head of one step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from truffle.bench.journal import Journal, Record
from truffle.bench.shares import read_shares
from truffle.bench.task_methods import Contender
from truffle.bench.tasks.planted import PLANTED, Attend, Planted
from truffle.model.config import DecodeConfig, ModelShape
from truffle.model.methods.layers import layer_caches
from truffle.model.operations import Operations

HEAD_DIM = 64
SETTINGS = (
    "op", "device", "dtype", "context", "head_dim", "task", "sample", "method", "asked_density", "parameters",
    "store_format",
)  # fmt: skip


@dataclass(frozen=True)
class PlantedSetting:
    """What methods are asked: `context` keys in `dtype` on `device`, planted anew for each of the samples."""

    context: int
    samples: int
    device: str
    dtype: torch.dtype


def measure_planted(contenders: list[Contender], setting: PlantedSetting, journal: Journal) -> Iterator[Record]:
    """A record for each task, sample and contender, in this order: score, output error, density and rows.

    Raises:
        ValueError: too few keys.
    """
    for task, plant in PLANTED.items():
        for sample in range(setting.samples):
            planted = None
            for contender in contenders:
                asked = _settings(task, sample, contender, setting)
                record = journal.find(asked)
                if record is None:
                    planted = planted or plant(n=setting.context, d=HEAD_DIM, seed=sample)
                    record = asked | answer(planted, contender.config, setting)
                    journal.add(record)
                yield record


def _settings(task: str, sample: int, contender: Contender, setting: PlantedSetting) -> Record:
    config = contender.config
    values = (
        "accuracy_planted", setting.device, str(setting.dtype).removeprefix("torch."), setting.context, HEAD_DIM, task,
        sample, config.method, contender.density, config.parameters.model_dump_json(), config.execution.store_format,
    )  # fmt: skip
    return dict(zip(SETTINGS, values, strict=True))


@torch.inference_mode()
def answer(planted: Planted, config: DecodeConfig, setting: PlantedSetting) -> Record:
    """Read all keys but the last, and decode that one with all queries."""
    heads, d = planted.queries.shape
    shape = ModelShape(layers=1, hidden=d, intermediate=d, heads=heads, kv_heads=1, head_dim=d, vocabulary=1)
    caches = layer_caches(shape, config, Operations(config, setting.device))
    q, keys, values = (
        x[None].to(setting.device, setting.dtype) for x in (planted.queries, planted.keys, planted.values)
    )
    caches[0].prefill([keys[:, :-1]], [values[:, :-1]])
    attend = _looked_up(planted, caches[0].decode(q, keys[:, -1:], values[:, -1:])[0].cpu())
    return {"score": planted.score(attend), "output_error": planted.output_error(attend), **read_shares(caches)}


def _looked_up(planted: Planted, outs: torch.Tensor) -> Attend:
    """Attention by what it has given for the queries, [Q, d]."""
    return lambda q, keys, values: outs[int((planted.queries == q).all(1).nonzero()[0])]
