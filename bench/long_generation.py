"""Methods on a long generation: the exact model goes on with a short text, and all methods follow it, token by token.

Every method starts from the same exact prefill and is fed the same tokens; exact decoding and the methods go in
lock-step, so that no logits are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from truffle.bench.accuracy import compare
from truffle.bench.journal import Journal, Record
from truffle.bench.shares import read_shares
from truffle.bench.task_methods import Contender
from truffle.bench.tasks.opening import opening
from truffle.bench.tasks.sample import Encode
from truffle.kernels.checks import expect
from truffle.model.config import DecodeConfig, Execution
from truffle.model.generate import Sampler
from truffle.model.llama import Decoder
from truffle.model.methods.dense import DenseLayer
from truffle.model.weights import LoadedModel

SEED = 0
SPANS, SPAN_BLOCKS = 8, 8
BLOCKS = SPANS * SPAN_BLOCKS
SETTINGS = (
    "op", "model", "device", "dtype", "context", "tokens", "temperature", "seed", "sample", "block", "method",
    "asked_density", "parameters", "store_format",
)  # fmt: skip


@dataclass(frozen=True)
class LongSetting:
    """What methods follow.

    Attributes:
        context: tokens of the opening.
        tokens: that exact decoding adds to it, drawn at `temperature`; end tokens are never drawn.
        samples: openings.
    """

    context: int
    tokens: int
    samples: int
    temperature: float

    def __post_init__(self) -> None:
        expect(self.tokens >= BLOCKS, "long_generation", f"at least {BLOCKS} tokens", self.tokens)

    def first(self, block: int) -> int:
        """The token that a block starts with; the run is cut into BLOCKS nearly equal ones."""
        return block * self.tokens // BLOCKS


def measure_long(
    model: LoadedModel, encode: Encode, contenders: list[Contender], setting: LongSetting, journal: Journal
) -> Iterator[Record]:
    """A record for each sample, contender and block of tokens: means of KL, agreement, density and rows.

    What the journal has of a sample comes first. The rest comes as it is measured, and is kept once a sample is whole.
    """
    for sample in range(setting.samples):
        absent, measured = [], []
        for contender in contenders:
            asked = _settings(model, sample, contender, setting)
            known = [journal.find(asked | {"block": block}) for block in range(BLOCKS)]
            if None in known:
                absent.append((asked, contender.config))
            else:
                yield from known
        if absent:
            prompt = opening(encode, setting.context, SEED, sample)
            for record in follow(model, prompt, absent, setting, Sampler(setting.temperature, sample)):
                measured.append(record)
                yield record
        for record in measured:
            journal.add(record)


def _settings(model: LoadedModel, sample: int, contender: Contender, setting: LongSetting) -> Record:
    config = contender.config
    values = (
        "accuracy_long", model.id, model.weights.device.type, str(model.weights.embedding.dtype).removeprefix("torch."),
        setting.context, setting.tokens, setting.temperature, SEED, sample, None, config.method, contender.density,
        config.parameters.model_dump_json(), config.execution.store_format,
    )  # fmt: skip
    return dict(zip(SETTINGS, values, strict=True))


def follow(
    model: LoadedModel,
    prompt: torch.Tensor,
    followers: list[tuple[Record, DecodeConfig]],
    setting: LongSetting,
    sampler: Sampler,
) -> Iterator[Record]:
    """Continue a prompt exactly, followed by methods; for each block of tokens a record of each, with its settings."""
    exact = Decoder(model.shape, model.weights, _exactly(followers[0][1]))
    logits = exact.prefill([prompt])
    decoders = [_following(model, exact, config) for _, config in followers]
    for block in range(BLOCKS):
        seen: list[list[Record]] = [[] for _ in followers]
        for _ in range(setting.first(block), setting.first(block + 1)):
            token = sampler(_without(logits, model.end_tokens))
            logits = exact.step(token)
            for decoder, steps in zip(decoders, seen, strict=True):
                steps.append(_step(decoder, token, logits[0]))
        for (settings, _), steps in zip(followers, seen, strict=True):
            yield settings | {"block": block, "first_token": setting.first(block)} | _means(steps)


def _exactly(config: DecodeConfig) -> DecodeConfig:
    return DecodeConfig(execution=Execution(threads=config.execution.threads))


def _following(model: LoadedModel, exact: Decoder, config: DecodeConfig) -> Decoder:
    decoder = Decoder(model.shape, model.weights, config)
    contents = [layer.contents(0) for layer in exact.caches if isinstance(layer, DenseLayer)]
    decoder.adopt([[keys] for keys, _ in contents], [[values] for _, values in contents])
    return decoder


def _step(decoder: Decoder, token: torch.Tensor, exact: torch.Tensor) -> Record:
    found = compare(decoder.step(token)[0], exact)
    return {"kl": found["kl"], "top1": found["top1"], **read_shares(decoder.caches)}


def _without(logits: torch.Tensor, tokens: frozenset[int]) -> torch.Tensor:
    return logits.index_fill(-1, torch.tensor(sorted(tokens), dtype=torch.int64, device=logits.device), -torch.inf)


def _means(steps: list[Record]) -> Record:
    """Of each figure, over the steps that have it."""
    found = {name: [step[name] for step in steps if step[name] is not None] for name in steps[0]}
    return {name: sum(values) / len(values) if values else None for name, values in found.items()}
