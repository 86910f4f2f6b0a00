"""Two studies side by side: what differs in what was asked, in the answers, and in the trials that both have."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .answer import gpu, verdict
from .confidence import confidence
from .numbers import DASH, figure, interval, percent, times
from .record import Study, Trial, load

SAME = ("label", "method", "K", "L", "min_hits", "probing", "dense_layers", "parameters", "batch_size", "threads",
        "isa", "pinning", "wait_policy", "micro_batches", "store_format", "attend_with")  # fmt: skip
SPEED, ERROR = {1: "faster", -1: "slower"}, {1: "errs more", -1: "errs less"}


@dataclass(frozen=True)
class Pair:
    """A trial with the same settings in both studies."""

    before: Trial
    after: Trial

    @property
    def speed(self) -> float | None:
        """Tokens a second of the second over the first."""
        rates = self.before.tokens_per_s, self.after.tokens_per_s
        return rates[1] / rates[0] if all(rates) else None

    @property
    def remark(self) -> str:
        """What of speed and error lies apart, by their 95% intervals."""
        told = SPEED.get(_apart(self, "tokens_per_s")), ERROR.get(_apart(self, "kl"))
        return ", ".join(word for word in told if word)


@dataclass(frozen=True)
class Comparison:
    """Rows are (what, first, second); `only` are names of complete trials that one study alone has."""

    names: tuple[str, str]
    asked: tuple[tuple[str, str, str], ...]
    answers: tuple[tuple[str, str, str], ...]
    pairs: tuple[Pair, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def verdict(self) -> str:
        """How many of the shared trials moved."""
        ends = [pair.remark for pair in self.pairs]
        moved = [(word, sum(word in end for end in ends)) for word in (*SPEED.values(), *ERROR.values())]
        told = ", ".join(f"{count} {word}" for word, count in moved if count)
        return f"{len(ends)} trials in both" + (f": {told}" if told else ", none clearly apart" if ends else "")


def compare(first: Path, second: Path) -> Comparison:
    """Reads both folders' study.json; raises RecordError where one cannot be."""
    studies = load(first), load(second)
    known = [{_settings(t): t for t in study.trials if t.status == "complete"} for study in studies]
    shared = [key for key in known[0] if key in known[1]]
    pairs = tuple(Pair(known[0][key], known[1][key]) for key in shared)
    only = _names_without(known[0], shared), _names_without(known[1], shared)
    asked, answers = _rows(ASKED, studies, equal=False), _rows(ANSWERS, studies, equal=True)
    return Comparison((str(first), str(second)), asked, answers, pairs, only)


def _names_without(trials: dict[tuple, Trial], shared: list[tuple]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_with_threads(trial) for key, trial in trials.items() if key not in shared))


def _with_threads(trial: Trial) -> str:
    return trial.name + ("" if trial.threads is None else f", {figure(trial.threads)} threads")


def _settings(trial: Trial) -> tuple:
    """The config, which has every setting; of exact ways and of other tools' trials, which keep none, what is told."""
    return (trial.config,) if trial.config else tuple(getattr(trial, name) for name in SAME)


def _rows(words: Iterable[tuple[str, Callable[[Study], str]]], studies: tuple[Study, Study], equal: bool) -> tuple:
    """Rows that differ; with `equal` the others too."""
    rows = [(name, word(studies[0]), word(studies[1])) for name, word in words]
    return tuple(row for row in rows if equal or row[1] != row[2])


def _apart(pair: Pair, name: str) -> int:
    """1 where the second lies above the first, -1 where below, 0 where their intervals meet or one has none."""
    ends = [getattr(t, name + end) for t in (pair.before, pair.after) for end in ("_low", "_high")]
    if None in ends:
        return 0
    return int(ends[2] > ends[1]) - int(ends[3] < ends[0])


def _with(value, low, high) -> str:
    return figure(value) + (f" ({interval(low, high)})" if interval(low, high) else "")


def _versions(study: Study) -> str:
    packages = study.environment.get("packages")
    return ", ".join(f"{name} {v}" for name, v in packages.items()) if isinstance(packages, dict) else DASH


ASKED: tuple[tuple[str, Callable[[Study], str]], ...] = (
    ("Workload", lambda s: figure(s.workload.get("id") or s.workload.get("model"))),
    ("GPU", gpu),
    (
        "Host",
        lambda s: (
            f"{figure(s.host.get('cpu'))}, {figure(s.host.get('logical_cpus'))} CPUs, {figure(s.host.get('source'))}"
        ),
    ),
    (
        "Accuracy on",
        lambda s: ", ".join(figure(s.accuracy_model.get(k)) for k in ("id", "context", "samples", "steps")),
    ),
    ("KL limit", lambda s: figure(s.limit.get("max_kl"))),
    ("Budget", lambda s: f"{figure(s.budget.get('trials'))} trials, {figure(s.budget.get('timeout_s'))} s"),
    ("Commit", lambda s: figure(s.commit)),
    ("Versions", _versions),
    ("Command", lambda s: figure(s.command)),
)
ANSWERS: tuple[tuple[str, Callable[[Study], str]], ...] = (
    ("Answer", verdict),
    ("Confidence", lambda s: ": ".join(confidence(s)) if confidence(s)[0] else DASH),
    (
        "Tokens/s",
        lambda s: _of_chosen(s, lambda t: _with(t.tokens_per_s, t.tokens_per_s_low, t.tokens_per_s_high)),
    ),
    ("Against exact", lambda s: times(s.answer.get("gain_over_dense"))),
    ("KL", lambda s: _of_chosen(s, lambda t: _with(t.kl, t.kl_low, t.kl_high))),
    ("Density", lambda s: _of_chosen(s, lambda t: percent(t.density))),
    ("Trials", lambda s: figure(len(s.trials))),
)


def _of_chosen(study: Study, word: Callable[[Trial], str]) -> str:
    return word(study.chosen) if study.chosen else DASH
