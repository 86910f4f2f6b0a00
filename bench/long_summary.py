"""What records of a long generation come to: figures by method along the way."""

from __future__ import annotations

from typing import Any

import numpy as np

from truffle.bench.long_generation import BLOCKS, SPAN_BLOCKS, SPANS
from truffle.bench.task_methods import Contender

DRAWS = 2000
WHOLE = "all"
FIGURES = ("kl", "top1", "density", "rows")


def summarise_long(records: list[dict[str, Any]], contenders: list[Contender]) -> list[dict[str, Any]]:
    """A flat row for each contender and span, eight equal ones and all of them: `first_token`, the mean of each figure,
    and the 95% intervals of `kl` and `top1` in `*_low` and `*_high`.
    """
    rows = []
    for contender in contenders:
        own = [record for record in records if _is_of(contender, record)]
        spans = {str(span + 1): range(span * SPAN_BLOCKS, (span + 1) * SPAN_BLOCKS) for span in range(SPANS)}
        rows += [_row(own, name, blocks) for name, blocks in (spans | {WHOLE: range(BLOCKS)}).items()]
    return rows


def _is_of(contender: Contender, record: dict[str, Any]) -> bool:
    named = (record["method"], record["asked_density"], record["parameters"])
    return named == (contender.config.method, contender.density, contender.config.parameters.model_dump_json())


def _row(records: list[dict[str, Any]], span: str, blocks: range) -> dict[str, Any]:
    chosen = sorted((r for r in records if r["block"] in blocks), key=lambda r: (r["sample"], r["block"]))
    left_out = ("op", "sample", "block", *FIGURES)
    shared = {name: value for name, value in chosen[0].items() if name not in left_out}
    samples = len(chosen) // len(blocks)
    row = {"op": "accuracy_long_summary", **shared, "span": span, "samples": samples}
    for name in FIGURES:
        values = [record[name] for record in chosen if record[name] is not None]
        row[name] = float(np.mean(values)) if values else None
        if name in ("kl", "top1"):
            row[f"{name}_low"], row[f"{name}_high"] = interval(np.array(values).reshape(samples, -1))
    return row


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95% percentile interval of the mean of values [samples, blocks]: samples are drawn, then blocks within each.

    Of one sample it speaks of blocks of that one only. A block holds neighbouring tokens, whose errors go together.
    """
    generator, (samples, blocks) = np.random.default_rng(seed), values.shape
    drawn = generator.integers(0, samples, (DRAWS, samples, 1))
    means = values[drawn, generator.integers(0, blocks, (DRAWS, samples, blocks))].mean((1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
