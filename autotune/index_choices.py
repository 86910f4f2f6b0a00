"""Which tables are searched: bits, tables, hits, and what a code is made of."""

from __future__ import annotations

from typing import Any

import optuna

from truffle.model.config import PAPER_DEFAULT, Probing

K_RANGE, L_RANGE, MIN_HITS = (6, 13), (10, 320), (1, 3)
FAMILIES = ("simhash", "cross_polytope 8", "cross_polytope 32")  # and of how many coordinates
PROBINGS = ("none", "ball 1", "directed 4", "directed 8", "directed 16")
MARKS = {"K": K_RANGE, "L": L_RANGE, "min_hits": MIN_HITS, "family": FAMILIES, "probing": PROBINGS}
SMALLEST = {"K": K_RANGE[0], "L": L_RANGE[0], "min_hits": 1}
PAPER_POINTS = ((8, 75), (9, 120), (10, 170), (10, 220), (11, 300))


def paper_index(K: int = PAPER_DEFAULT.K, L: int = PAPER_DEFAULT.L) -> dict[str, Any]:
    """A point of the paper's, its default by default."""
    return {"K": K, "L": L, "min_hits": 2, "family": FAMILIES[0], "probing": PROBINGS[0]}


def asked_index(trial: optuna.Trial) -> dict[str, Any]:
    """What the sampler asks for; only planes have neighbouring buckets to probe."""
    point: dict[str, Any] = {
        "K": trial.suggest_int("K", *K_RANGE),
        "L": trial.suggest_int("L", *L_RANGE),
        "min_hits": trial.suggest_int("min_hits", *MIN_HITS),
        "family": trial.suggest_categorical("family", FAMILIES),
    }
    if point["family"] == FAMILIES[0]:
        point["probing"] = trial.suggest_categorical("probing", PROBINGS)
    return point


def index_parameters(point: dict[str, Any]) -> dict[str, Any]:
    """The same as LshParameters take it; what the point says nothing of is as it is by default."""
    family, _, coordinates = point.get("family", FAMILIES[0]).partition(" ")
    found = {name: point[name] for name in ("K", "L", "min_hits") if name in point}
    found |= {"family": family, "coordinates": int(coordinates) if coordinates else None}
    return found | {"probing": Probing.named(point.get("probing") or "none")}
