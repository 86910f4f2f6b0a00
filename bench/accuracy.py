"""How far a method's decoding is from exact decoding, teacher-forced on the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from truffle.bench import text
from truffle.bench.dense_run import DenseRun, run_dense
from truffle.bench.shares import read_shares
from truffle.model.config import DecodeConfig
from truffle.model.generate import Sampler
from truffle.model.llama import Decoder
from truffle.model.methods.base import LayerCache
from truffle.model.methods.layers import layer_caches
from truffle.model.operations import Operations
from truffle.model.weights import LoadedModel

BOOTSTRAP_DRAWS = 2000


@dataclass(frozen=True)
class Setting:
    """What accuracy is measured on.

    Attributes:
        context: tokens of the prompt.
        samples: texts; steps: tokens decoded after each.
        temperature: teacher-force the dense model's own continuation at this temperature; None for the text's.
    """

    context: int
    samples: int
    steps: int
    temperature: float | None = None


def dense_runs(model: LoadedModel, setting: Setting, threads: int) -> list[DenseRun]:
    """The exact runs that every method is compared with; one prefill a sample serves all of them.

    Raises:
        ValueError: the text is too short for that many samples, or the model for that context.
    """
    own = None if setting.temperature is None else Sampler(setting.temperature)
    length = setting.context + (0 if own else setting.steps)
    require_positions(model, setting.context, setting.steps)
    stretches = text.windows(model.tokenizer(), setting.samples, length)
    return [run_dense(model, tokens, setting.steps, threads, own) for tokens in stretches]


def require_positions(model: LoadedModel, context: int, steps: int) -> None:
    """Raise ValueError where prompt and steps go beyond what the model was made for."""
    most = model.shape.max_positions
    if context + steps > most:
        raise ValueError(f"context: expected at most {most - steps} tokens before {steps} steps, got {context}")


def measure(model: LoadedModel, run: DenseRun, config: DecodeConfig, sample: int) -> list[dict[str, Any]]:
    """One flat record a decoded token: KL, agreement and losses, and means over layers of the rest."""
    replayed = replay(model, run, config, sample)
    return [{**own, **step} for own, step in zip(decode(model, run, config, sample), replayed, strict=True)]


def decode(model: LoadedModel, run: DenseRun, config: DecodeConfig, sample: int) -> list[dict[str, Any]]:
    """One flat record a decoded token: KL, agreement and losses."""
    decoder = Decoder(model.shape, model.weights, config)
    decoder.adopt([[keys] for keys in run.keys], [[values] for values in run.values])
    records = []
    for step, token in enumerate(run.continuation):
        logits = decoder.step(token[None])[0]
        target = run.continuation[step + 1] if step + 1 < len(run.continuation) else None
        records.append({"sample": sample, "step": step, **compare(logits, run.logits[step], target)})
    return records


def compare(logits: torch.Tensor, exact: torch.Tensor, target: torch.Tensor | None = None) -> dict[str, Any]:
    """KL of what a method gives from exact logits, [vocabulary] each, whether the likeliest token is the same, and what
    each loses on the `target`."""
    ours, theirs = logits.double().log_softmax(-1), exact.double().log_softmax(-1)
    return {
        "kl": float((theirs.exp() * (theirs - ours)).sum()),
        "top1": int(ours.argmax() == theirs.argmax()),
        "loss": None if target is None else -float(ours[target]),
        "dense_loss": None if target is None else -float(theirs[target]),
    }


@torch.inference_mode()
def replay(
    model: LoadedModel,
    run: DenseRun,
    config: DecodeConfig,
    sample: int,
    layers: Sequence[int] | None = None,
    steps: int | None = None,
) -> list[dict[str, Any]]:
    """Output error, density and rows of each step, every layer fed what the exact run fed it.

    Args:
        layers, steps: only these layers, and as many of the first steps; all of them by default.
    """
    taken = range(len(run.keys)) if layers is None else layers
    caches = layer_caches(model.shape, config, Operations(config, model.weights.device.type))
    chosen = [caches[layer] for layer in taken]
    for cache, layer in zip(chosen, taken, strict=True):
        cache.prefill([run.keys[layer]], [run.values[layer]])
    return [
        {"sample": sample, "step": step, **_replay_step(chosen, [seen[layer] for layer in taken])}
        for step, seen in enumerate(run.steps[:steps])
    ]


def _replay_step(caches: list[LayerCache], step: list[Any]) -> dict[str, float | None]:
    errors = []
    for cache, seen in zip(caches, step, strict=True):
        out = cache.decode(seen.q, seen.keys, seen.values)
        if cache.usage() is not None:
            errors.append(((out - seen.out).norm(dim=-1) / seen.out.norm(dim=-1)).mean())
    return {"output_error": float(torch.stack(errors).mean()) if errors else None, **read_shares(caches)}


def summarise(records: list[dict[str, Any]], seed: int = 0) -> dict[str, float | None]:
    """Means over samples and steps of what the records have, each with a 95% interval in `*_low` and `*_high`.

    Intervals are percentiles of a two-level bootstrap: samples are drawn, then steps within each. With one
    sample they speak of steps of that text only.
    """
    summary: dict[str, float | None] = {}
    for name in ("kl", "top1", "output_error", "density", "rows"):
        if name in records[0]:
            summary |= _interval(name, _by_sample(records, name), seed)
    if "loss" not in records[0]:
        return summary
    losses = [
        np.stack(pair, 1) for pair in zip(_by_sample(records, "loss"), _by_sample(records, "dense_loss"), strict=True)
    ]
    return summary | _interval("perplexity_ratio", losses, seed)


def _by_sample(records: list[dict[str, Any]], name: str) -> list[np.ndarray]:
    samples = sorted({record["sample"] for record in records})
    chosen = [[r[name] for r in records if r["sample"] == sample and r[name] is not None] for sample in samples]
    return [np.array(values, float) for values in chosen]


def _interval(name: str, samples: list[np.ndarray], seed: int) -> dict[str, float | None]:
    if not samples or any(len(sample) == 0 for sample in samples):
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    generator = np.random.default_rng(seed)

    def statistic(parts: list[np.ndarray]) -> float:
        pooled = np.concatenate(parts)
        return float(np.exp((pooled[:, 0] - pooled[:, 1]).mean()) if pooled.ndim == 2 else pooled.mean())

    draws = []
    for _ in range(BOOTSTRAP_DRAWS):
        chosen = generator.integers(0, len(samples), len(samples))
        draws.append(statistic([samples[i][generator.integers(0, len(samples[i]), len(samples[i]))] for i in chosen]))
    low, high = np.quantile(draws, [0.025, 0.975])
    return {name: statistic(samples), f"{name}_low": float(low), f"{name}_high": float(high)}
