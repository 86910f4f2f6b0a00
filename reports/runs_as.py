"""How a trial runs, where that is not as the default does: what may set trials of one name apart."""

from .method_label import own_parameters
from .numbers import figure
from .record import Study, Trial

WORDS = {
    "threads": "threads {}", "isa": "{}", "pinning": "pinning {}", "wait_policy": "{}", "window": "window {}",
    "sink": "sink {}", "attend_with": "{}", "store_format": "{}", "micro_batches": "lanes {}",
}  # fmt: skip


def runs_as(study: Study, trial: Trial) -> str:
    """Threads, instruction set, pinning, waiting and the like, of what the trial says and the default has otherwise."""
    default = next((t for t in study.trials if t.origin == "default"), None)
    own, usual = _known(trial), _known(default) if default else {}
    return ", ".join(WORDS[name].format(figure(own[name])) for name in own if own[name] != usual.get(name))


def _known(trial: Trial) -> dict:
    """What the trial's own fields say, or else the execution in its config."""
    execution = own_parameters(trial.name, trial.config, "config").get("execution")
    inside = execution if isinstance(execution, dict) else {}
    found = {name: inside.get(name) if getattr(trial, name) is None else getattr(trial, name) for name in WORDS}
    return {name: value for name, value in found.items() if value is not None}
