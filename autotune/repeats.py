"""Pools measurements of one point: the sampler asks for some again, and nothing of that is new but its noise."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from truffle.autotune.record import TrialRecord


def pooled_records(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The records without repeats, whose figures are in those of what they repeat."""
    by_number: dict[int, list[TrialRecord]] = {}
    for record in records:
        if record.repeat_of is not None:
            by_number.setdefault(record.repeat_of, []).append(record)
    return [pooled(record, by_number.get(record.number, ())) for record in records if record.repeat_of is None]


def pooled(record: TrialRecord, repeats: Sequence[TrialRecord]) -> TrialRecord:
    """The record with the mean of throughput and parts of a step, and bounds around all of them."""
    if not repeats:
        return record
    every = [record, *repeats]
    figures: dict[str, Any] = {name: mean(getattr(r, name) for r in every) for name in _timed(record)}
    figures["tokens_per_s_low"] = min(r.tokens_per_s_low or 0.0 for r in every)
    figures["tokens_per_s_high"] = max(r.tokens_per_s_high or 0.0 for r in every)
    return record.updated(**figures, repeats=len(every))


def _timed(record: TrialRecord) -> list[str]:
    names = [name for name in record.to_dict() if name.startswith("ms_") or name in ("tokens_per_s", "step_ms")]
    return [name for name in names if getattr(record, name) is not None]
