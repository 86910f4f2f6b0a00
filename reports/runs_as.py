"""How a trial runs, where that is not as the default does: what may set trials of one name apart."""

from .numbers import figure
from .record import Study, Trial

WORDS = {
    "threads": "{} threads", "isa": "{}", "pinning": "pinning {}", "wait_policy": "{}", "window": "window {}",
    "sink": "sink {}", "attend_with": "{}", "store_format": "{}", "micro_batches": "{} lanes",
}  # fmt: skip


def runs_as(study: Study, trial: Trial) -> str:
    """Threads, instruction set, pinning, waiting and the like, of what the trial says and the default has otherwise."""
    default = next((t for t in study.trials if t.origin == "default"), None)
    own = {name: getattr(trial, name) for name in WORDS}
    return ", ".join(
        WORDS[name].format(figure(value)) for name, value in own.items()
        if value is not None and value != getattr(default, name, None)
    )  # fmt: skip
