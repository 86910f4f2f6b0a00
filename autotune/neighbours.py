"""Points beside the best one: as it is in all but one setting.

The sampler looks for the whole front. A recommendation is one point of it, which is found sooner by trying, every other
time, what is near the best so far: on a recorded grid after 24 evaluations in place of 40, in the median.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

ATTEMPTS, REACH = 16, 6


def line_up_neighbour(study: optuna.Study, number: int) -> None:
    """Have the study ask next for a point beside that of trial `number`, if one is found that was not asked for yet.

    What the other value leaves no use for stays in the point, and is not asked for: a point was asked for where all
    that some trial was asked is in it.
    """
    trials = study.get_trials(deepcopy=False)
    best, random = trials[number], np.random.default_rng(len(trials))
    names = [name for name, among in best.distributions.items() if not among.single()]
    asked = [trial.params.items() for trial in trials if trial.params]
    for name in random.choice(names, ATTEMPTS) if names else ():
        value = other(best.distributions[name], best.params[name], random)
        point = {**best.params, str(name): value}
        if not any(params <= point.items() for params in asked):
            study.enqueue_trial(point, user_attrs={"origin": "search"})
            return


def other(among: BaseDistribution, value: Any, random: np.random.Generator) -> Any:
    """Another value: of names any, of numbers one that is near, by their logarithm where they are asked for by it."""
    if isinstance(among, CategoricalDistribution):
        others = [choice for choice in among.choices if choice != value]
        return others[random.integers(len(others))]
    assert isinstance(among, IntDistribution | FloatDistribution)
    scale, back = (np.log, np.exp) if among.log else (float, float)
    low, high, middle = scale(among.low), scale(among.high), scale(value)
    while True:
        found = float(np.clip(back(random.normal(middle, (high - low) / REACH)), among.low, among.high))
        found = round(found) if isinstance(among, IntDistribution) else found
        if found != value:
            return found
