"""Re-measures what would be published: the best point and the default, taking turns."""

from __future__ import annotations

from statistics import mean

from truffle.autotune.answer import best_feasible, default_of
from truffle.autotune.record import TrialRecord
from truffle.autotune.space import Space
from truffle.autotune.throughput import ThroughputMeter

ROUNDS, SECONDS, MOST_CANDIDATES = 2, 2.0, 4


def confirm(records: list[TrialRecord], space: Space, throughput: ThroughputMeter) -> list[TrialRecord]:
    """The records, with the default and the best feasible point measured anew.

    The search picks the luckiest of many noisy measurements; only measurements made after the pick are fair. A
    best that falls behind another when measured anew is followed by that one, up to MOST_CANDIDATES.
    """
    found = {record.number: record for record in records}
    for _ in range(MOST_CANDIDATES):
        every = list(found.values())
        best, default = best_feasible(every), default_of(every)
        chosen = [record for record in (best, default) if record and not record.confirmed]
        if not chosen:
            break
        turns: dict[int, list[dict]] = {record.number: [] for record in chosen}
        for _ in range(ROUNDS):
            for record in chosen:
                turns[record.number].append(throughput.measure(space.config_of(record), SECONDS))
        found |= {record.number: _pooled(record, turns[record.number]) for record in chosen}
    return list(found.values())


def _pooled(record: TrialRecord, turns: list[dict]) -> TrialRecord:
    averaged = {
        name: mean(turn[name] for turn in turns) for name, value in turns[0].items() if isinstance(value, float)
    }
    averaged["tokens_per_s_low"] = min(turn["tokens_per_s_low"] for turn in turns)
    averaged["tokens_per_s_high"] = max(turn["tokens_per_s_high"] for turn in turns)
    return record.updated(**averaged, confirmed=True)
