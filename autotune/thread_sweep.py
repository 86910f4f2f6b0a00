"""The best point with every other number of threads: a host may do best with far fewer than it has."""

from __future__ import annotations

import json
from collections.abc import Sequence

import optuna
from optuna.trial import TrialState

from truffle.autotune.record import TrialRecord

THREADS = "threads"  # as the space asks for it, and the origin of these trials
FEWEST = 3


def line_up_threads(study: optuna.Study, best: TrialRecord, records: Sequence[TrialRecord]) -> int:
    """Line up the best point with the thread counts that it was not measured with; how many there are."""
    trial = study.get_trials(deepcopy=False)[best.number]
    if THREADS not in trial.params:
        return 0
    among, alike = trial.distributions[THREADS], [r.number for r in records if _but_threads(r) == _but_threads(best)]
    trials = study.get_trials(deepcopy=False)
    known = {trials[number].params.get(THREADS) for number in alike}
    missing = [index for index in range(among.low, among.high + 1) if index not in known]
    for _ in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):  # planned, and not come to
        study.tell(study.ask(), state=TrialState.FAIL)
    for index in missing:
        study.enqueue_trial({**trial.params, THREADS: index}, user_attrs={"origin": THREADS})
    return len(missing)


def on_threads(records: Sequence[TrialRecord]) -> list[str]:
    """A sentence on what the swept point does by threads; none where no point was."""
    swept = [r for r in records if r.origin == THREADS and r.tokens_per_s is not None]
    found = {r.threads: r for r in records if swept and r.tokens_per_s and _but_threads(r) == _but_threads(swept[-1])}
    if len(found) < FEWEST:
        return []
    rates = {threads: found[threads].tokens_per_s or 0.0 for threads in sorted(found, key=lambda threads: threads or 0)}
    best, worst = max(rates, key=lambda threads: rates[threads]), min(rates, key=lambda threads: rates[threads])
    listed = ", ".join(f"{threads}: {rate:.3g}" for threads, rate in rates.items())
    return [
        f"By CPU threads, {found[best].label} does, in tokens/s, {listed}; {best} do {rates[best] / rates[worst]:.1f} "
        f"times what {worst} do."
    ]


def _but_threads(record: TrialRecord) -> str:
    """The config without threads, nor what is only asked of several."""
    if record.config is None:
        return ""
    config = json.loads(record.config)
    config["execution"] |= {THREADS: 0, "pinning": "", "wait_policy": ""}
    return json.dumps(config, sort_keys=True)
