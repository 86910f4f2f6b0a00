"""Re-measures what would be published, taking turns, until who is fastest is told apart from noise or time is up.

The search picks the luckiest of many noisy measurements; only measurements made after the pick are fair.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from truffle.autotune.answer import best_feasible, default_of
from truffle.autotune.contest import Contest
from truffle.autotune.measuring import Bench
from truffle.autotune.record import TrialRecord
from truffle.autotune.space import Space

MOST_CANDIDATES, MOST_CONTESTS = 4, 4


def confirm(records: Sequence[TrialRecord], space: Space, bench: Bench, budget_s: float) -> list[TrialRecord]:
    """The records, with the best few and the default measured anew.

    Where all of these fall behind a point that was not among them, that one is measured too, with the best of them,
    if there is time.
    The default is measured even where it breaks a limit: the gain over it is published.
    """
    found, end = {record.number: record for record in records}, time.monotonic() + budget_s
    for _ in range(MOST_CONTESTS):
        best = best_feasible(list(found.values()))
        over = time.monotonic() >= end and any(record.confirmed for record in found.values())
        if best is None or best.confirmed or over:
            break
        contest = Contest(bench, default_of(list(found.values())))
        chosen = candidates(list(found.values()))
        found |= {record.number: record for record in contest.run(chosen, space, end)}
    if not any(record.confirmed for record in found.values()):
        default = default_of(list(found.values()))
        chosen = [default] if default else []
        found |= {record.number: record for record in Contest(bench, default).run(chosen, space, end)}
    return [found[number] for number in sorted(found)]


def candidates(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Feasible points that may be the fastest by their intervals, the fastest first, and the default."""
    racing = (r for r in records if r.feasible and r.behind is None)
    feasible = sorted(racing, key=lambda r: r.tokens_per_s or 0.0, reverse=True)
    least = (feasible[0].tokens_per_s_low or 0.0) if feasible else 0.0
    chosen = [record for record in feasible if (record.tokens_per_s_high or 0.0) >= least][:MOST_CANDIDATES]
    default = default_of(list(records))
    return chosen + [record for record in (default,) if record and record not in chosen]
