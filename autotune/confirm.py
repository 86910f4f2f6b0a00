"""Re-measures what would be published: the best point and the default, taking turns."""

from __future__ import annotations

from statistics import mean

from truffle.autotune.answer import best_feasible, default_of
from truffle.autotune.evaluate import ThroughputMeter
from truffle.autotune.record import TrialRecord
from truffle.autotune.space import Space

ROUNDS, SECONDS = 2, 2.0


def confirm(records: dict[int, TrialRecord], space: Space, throughput: ThroughputMeter) -> dict[int, TrialRecord]:
    """The records, with the best feasible point and the default measured anew.

    The search picks the luckiest of many noisy measurements; only measurements made after the pick are fair.
    Each figure becomes the mean over turns, its interval what the turns' intervals span together.
    """
    chosen = {
        record.number: record
        for record in (best_feasible(list(records.values())), default_of(list(records.values())))
        if record
    }
    turns: dict[int, list[dict]] = {number: [] for number in chosen}
    for _ in range(ROUNDS):
        for number, record in chosen.items():
            turns[number].append(throughput.measure(space.config_of(record), SECONDS))
    return {**records, **{number: _pooled(chosen[number], figures) for number, figures in turns.items()}}


def _pooled(record: TrialRecord, turns: list[dict]) -> TrialRecord:
    averaged = {
        name: mean(turn[name] for turn in turns) for name, value in turns[0].items() if isinstance(value, float)
    }
    averaged["tokens_per_s_low"] = min(turn["tokens_per_s_low"] for turn in turns)
    averaged["tokens_per_s_high"] = max(turn["tokens_per_s_high"] for turn in turns)
    return record.updated(**averaged, confirmed=True)
