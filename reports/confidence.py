"""How far an answer is to be trusted, and what holds it down."""

from .proxy import proxy
from .record import Study, Trial


def confidence(study: Study) -> tuple[str, str]:
    """ "High", "Fair" or "Low", and the reasons in words; both empty where nothing is advised.

    Low: the run was cut short, or what is chosen is not clear of the fastest other kind of answer or of the default.
    Fair: speed was not measured on the card itself, or only once, or without an interval, or error on another model
    than the workload's.
    """
    chosen = study.chosen or _fastest(study, exact=True)
    if chosen is None:
        return "", ""
    low, fair = _doubts(study, chosen), _reservations(study, chosen)
    word = "Low" if low else "Fair" if fair else "High"
    return word, "; ".join(low + fair) or "measured, and clear of the alternatives"


def _doubts(study: Study, chosen: Trial) -> list[str]:
    found = ["the search is not complete"] if study.complete is False else []
    rival = _fastest(study, exact=not chosen.exact)
    if rival is not None and _overlap(chosen, rival):
        found.append(f"its interval overlaps that of {rival.name}")
    if chosen.gain_low is not None and chosen.gain_low <= 1:
        found.append("its gain over the default may be none")
    return found


def _reservations(study: Study, chosen: Trial) -> list[str]:
    found = [] if chosen.throughput_kind == "measured" else [f"speed is {chosen.throughput_kind or 'of unknown kind'}"]
    if chosen.tokens_per_s_low is None or chosen.tokens_per_s_high is None:
        found.append("no interval of it is known")
    if not chosen.exact:
        found += [] if chosen.confirmed else ["measured once"]
        found += [f"error is of {proxy(study)}"] if proxy(study) else []
    return found


def _overlap(one: Trial, other: Trial) -> bool:
    """A figure without an interval stands for itself."""
    a, b = _bounds(one), _bounds(other)
    return a[0] <= b[1] and b[0] <= a[1]


def _bounds(trial: Trial) -> tuple[float, float]:
    low, high = trial.tokens_per_s_low, trial.tokens_per_s_high
    return (trial.tokens_per_s if low is None else low), (trial.tokens_per_s if high is None else high)


def _fastest(study: Study, exact: bool) -> Trial | None:
    fit = [t for t in study.trials if t.plotted and t.feasible and t.exact == exact]
    return max(fit, key=lambda t: t.tokens_per_s, default=None)
