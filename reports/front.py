"""Which trials matter: the Pareto front, and the role each trial plays in the story."""

from .record import Study, Trial


def pareto_front(trials) -> list[Trial]:
    """Feasible trials that no other beats in both KL and tokens/s, by rising KL."""
    feasible = sorted((t for t in trials if t.plotted and t.feasible), key=lambda t: (t.kl, -t.tokens_per_s))
    front: list[Trial] = []
    for trial in feasible:
        if not front or trial.tokens_per_s > front[-1].tokens_per_s:
            front.append(trial)
    return front


def roles(study: Study) -> dict[int, list[str]]:
    """Trial number to its roles, most telling first: chosen, default, paper, method, exact, front."""
    front = {t.number for t in pareto_front(study.trials)}
    chosen = study.chosen
    found = {}
    for trial in study.trials:
        found[trial.number] = [
            role
            for role, holds in (
                ("chosen", chosen is not None and trial.number == chosen.number),
                ("default", trial.origin == "default"),
                ("paper", trial.origin == "paper"),
                ("method", trial.origin == "method"),
                ("exact", trial.exact),
                ("front", trial.number in front),
            )
            if holds
        ]
    return found


def highlights(study: Study) -> list[Trial]:
    """The trials worth a line in a summary: any with a role, the fastest first, those without speed last."""
    parts = roles(study)
    return sorted((t for t in study.trials if parts[t.number]), key=lambda t: -(t.tokens_per_s or 0.0))
