"""What the study recommends, in words and as a tuned config: a sampled point, the default, or exact attention."""

from __future__ import annotations

from dataclasses import dataclass

from truffle.autotune.baselines import Baseline
from truffle.autotune.record import ON_GPU, TrialRecord
from truffle.model.scan_parameters import ScanParameters


@dataclass(frozen=True)
class Answer:
    """The recommendation.

    Attributes:
        trial: the recommended record; None means exact attention.
        headline: one sentence.
        detail: further sentences.
    """

    trial: TrialRecord | None
    headline: str
    detail: tuple[str, ...]
    gain_over_dense: float | None
    gain_over_default: float | None


def best_feasible(records: list[TrialRecord]) -> TrialRecord | None:
    """The fastest sampled point that fits, keeps the error limit and did not fall behind when turns were taken.

    Points that took turns with the default go by their gain over it, whatever the machine did meanwhile.
    """
    running = [r for r in records if r.feasible and r.tokens_per_s is not None and r.behind is None]
    default = default_of(records)
    base = (default.tokens_per_s if default else None) or 1.0
    return max(running, key=lambda r: (r.tokens_per_s or 0.0) / base if r.gain is None else r.gain, default=None)


def default_of(records: list[TrialRecord]) -> TrialRecord | None:
    """The paper's default, if it was measured."""
    return next((record for record in records if record.origin == "default" and record.status == "complete"), None)


def decide(records: list[TrialRecord], exact: Baseline, max_kl: float | None) -> Answer:
    """Recommend the fastest feasible point if all of its interval beats the fastest exact way, else exact attention.

    A point whose interval overlaps the default's is no significant gain: the default is kept if it is feasible.
    """
    best, default = best_feasible(records), default_of(records)
    exact_rate = exact.tokens_per_s or 0.0
    if best is None or (best.tokens_per_s_low or 0.0) <= exact_rate:
        return _exact(best, exact, default, max_kl)
    kept_default = _keeps_default(best, default, exact_rate)
    best = default if kept_default and default else best
    gain, over_default = _ratio(best, exact_rate), _over(best, default)
    limit = "none" if max_kl is None else f"{max_kl:.4f}"
    headline = (
        f"Use {best.label} with {_execution_of(best)}: "
        f"{best.tokens_per_s:.3g} tokens/s ({best.throughput_kind}), {gain:.2f}x the fastest exact way, "
        f"at KL {best.kl:.4f} (limit {limit})."
    )
    detail = [f"The fastest exact way is {exact.name}: {exact_rate:.3g} tokens/s ({exact.kind})."]
    as_default = default is not None and best.kl == default.kl  # the same sample of keys
    if max_kl is not None and not as_default and (best.kl_high or 0.0) > max_kl:
        interval = f"{best.kl_low:.4f} to {best.kl_high:.4f}"
        detail.append(f"Its KL is not told apart from the limit: {interval}, on the texts that the search chose it by.")
    if best.attend_with == ON_GPU and best.throughput_kind == "estimated":
        detail.append("Sampling on the GPU is estimated from bytes alone, in its favour: no such kernel was timed.")
    if best.method == ScanParameters.method and best.throughput_kind == "estimated":
        detail.append("A scan's step is predicted from the card's profile and the host's calibration: none was timed.")
    if best.filled:
        detail.append(f"What is left of the GPU's memory is filled with dense layers: {best.dense_layers}.")
    if kept_default:
        detail.append("No point gained significantly over the paper's default, so the default is kept.")
    elif over_default is not None and best.origin != "default":
        by = f"{over_default:.2f}x the paper's default (10, 150){_by_turns(best)}"
        detail.append(f"That is {by}, {_fit_of(default)}.")
    return Answer(best, headline, tuple(detail), gain, over_default)


def _execution_of(best: TrialRecord) -> str:
    threads = "" if best.attend_with == ON_GPU else f"{best.threads} CPU threads and "
    halves = " in two halves" if best.micro_batches == 2 else ""
    return f"{threads}batch size {best.batch_size}{halves}"


def _exact(best: TrialRecord | None, exact: Baseline, default: TrialRecord | None, max_kl: float | None) -> Answer:
    rate = exact.tokens_per_s or 0.0
    headline = (
        f"Use dense (exact) attention, {exact.name}, batch size {exact.batch_size}: {rate:.3g} tokens/s "
        f"({exact.kind}); no sampled point that fits and keeps the error limit is clearly faster."
    )
    if best is None:
        detail = ["No sampled point both fits and keeps the error limit."]
    else:
        detail = [f"The fastest such point, {best.label}, does {best.tokens_per_s:.3g} tokens/s at KL {best.kl:.4f}."]
    if max_kl is not None:
        detail.append(f"The KL limit is {max_kl:.4f}.")
    return Answer(None, headline, tuple(detail), 1.0, _ratio_of(rate, default.tokens_per_s if default else None))


def _keeps_default(best: TrialRecord, default: TrialRecord | None, exact_rate: float) -> bool:
    """Whether the default may be recommended in place of a best that is not clearly faster than it."""
    if default is None or not default.feasible or default.number == best.number:
        return False
    beats_exact = (default.tokens_per_s_low or 0.0) > exact_rate
    return beats_exact and not gains(best, default)


def gains(best: TrialRecord, default: TrialRecord) -> bool:
    """Whether a point is faster than the default by more than noise.

    By turns that both took. Where none were, or where what the two ask of a card is estimated and not the same, their
    intervals have to be apart as well, which hold what estimates are wrong by.
    """
    apart = (best.tokens_per_s_low or 0.0) > (default.tokens_per_s_high or 0.0)
    if best.gain_low is None:
        return apart
    same = best.throughput_kind != "estimated" or _on_card(best) == _on_card(default)
    return best.gain_low > 1 and (same or apart)


def _on_card(record: TrialRecord) -> tuple[object, ...]:
    """What a step's part on the card depends on."""
    on_gpu = record.attend_with == ON_GPU
    return record.method, on_gpu, record.dense_layers, record.micro_batches, record.batch_size


def _over(best: TrialRecord, default: TrialRecord | None) -> float | None:
    """The gain over the default, by turns where both took them."""
    return best.gain if best.gain is not None else _ratio(best, default.tokens_per_s if default else None)


def _by_turns(best: TrialRecord) -> str:
    if best.gain_low is None or best.gain_high is None:
        return ""
    return f" ({best.gain_low:.2f} to {best.gain_high:.2f}, by turns)"


def _fit_of(default: TrialRecord | None) -> str:
    if default is None or default.feasible:
        return "which fits too"
    return f"which is not feasible here: {default.infeasible_because}"


def _ratio(record: TrialRecord, rate: float | None) -> float | None:
    return _ratio_of(record.tokens_per_s or 0.0, rate)


def _ratio_of(rate: float, other: float | None) -> float | None:
    return rate / other if other else None


def front(records: list[TrialRecord], exact: Baseline) -> list[TrialRecord]:
    """Feasible points that no other, and not the fastest exact way, beats in both KL and tokens a second, by KL."""
    feasible = [record for record in records if record.feasible and record.tokens_per_s is not None]
    feasible.sort(key=lambda record: (record.kl or 0.0, -(record.tokens_per_s or 0.0)))
    found, fastest = [], exact.tokens_per_s or 0.0
    for record in feasible:
        if (record.tokens_per_s or 0.0) > fastest:
            found.append(record)
            fastest = record.tokens_per_s or 0.0
    return found
