"""python -m autotune compare: what tells two studies apart, and whose best is better."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat, ValidationError
from rich.console import Console
from rich.table import Table

from truffle.kernels.checks import ArgumentError

Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Point(BaseModel):
    """A trial, as far as it is compared."""

    number: int
    label: str
    tokens_per_s: Rate | None = None
    tokens_per_s_low: Rate | None = None
    tokens_per_s_high: Rate | None = None
    kl: FiniteFloat | None = None
    kl_low: FiniteFloat | None = None
    kl_high: FiniteFloat | None = None


class Answer(BaseModel):
    """What a study recommends: a trial's number, or None for the fastest exact way."""

    trial: int | None
    fastest_exact: str | None = None


class Around(BaseModel):
    """What a study ran on."""

    packages: dict[str, Any] | None = None


class Compared(BaseModel):
    """A study's record, as far as it is compared."""

    answer: Answer
    trials: tuple[Point, ...]
    workload: dict[str, Any]
    host: dict[str, Any]
    gpu: dict[str, Any] | None = None
    accuracy_model: dict[str, Any] | None = None
    limit: dict[str, Any] | None = None
    budget: dict[str, Any] | None = None
    fingerprint: dict[str, Any] | None = None
    environment: Around | None = None


FIRST, SECOND, NEITHER = "the first", "the second", "cannot tell"


def run(arguments: argparse.Namespace) -> int:
    """Print how the studies differ and compare their best."""
    first, second = read(arguments.first), read(arguments.second)
    found = compared(first, second)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return 0
    table = Table("differs", *(str(path) for path in (arguments.first, arguments.second)), box=None, pad_edge=False)
    for name, (one, other) in found["differences"].items():
        table.add_row(name, _shown(one), _shown(other))
    for name in ("label", "tokens_per_s", "tokens_per_s_low", "tokens_per_s_high", "kl", "kl_low", "kl_high"):
        table.add_row(name, *(_shown(best[name]) for best in found["best"]))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"\n{found['sentence']}", markup=False, soft_wrap=True)
    return 0


def read(path: Path) -> dict[str, Any]:
    """A study's record, from its folder or the file.

    Raises:
        ArgumentError: there is none.
    """
    file = path / "study.json" if path.is_dir() else path
    try:
        study = json.loads(file.read_text())
        Compared.model_validate(study)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise ArgumentError(f"{file}: expected a study's record, got {where}: {first['msg']}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(f"{file}: expected a study's record, got {error}") from None
    return study


def compared(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Differences by name, the best of both, and how the first's relates to the second's."""
    best = [_best(study) for study in (first, second)]
    found = {"differences": differences(first, second), "best": best}
    ratio = _ratio(*best)
    faster = NEITHER if ratio is None or ratio[0] <= 1 <= ratio[1] else FIRST if ratio[0] > 1 else SECOND
    return {**found, "ratio": ratio, "faster": faster, "sentence": _sentence(found["differences"], ratio, faster, best)}


def differences(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Marks of machine, space, workload, limits, budgets and versions that are not equal."""
    one, other = _marks(first), _marks(second)
    names = sorted(set(one) | set(other))
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def _marks(study: dict[str, Any]) -> dict[str, Any]:
    around = study.get("environment") or {}
    groups = {name: study.get(name) or {} for name in ("gpu", "host", "workload", "accuracy_model", "limit", "budget")}
    groups |= {"package": around.get("packages") or {}, "study": study.get("fingerprint") or {}}
    marks = {f"{group} {name}": value for group, held in groups.items() for name, value in held.items()}
    return marks | {name: around.get(name) for name in ("commit", "os", "python", "driver")}


def _best(study: dict[str, Any]) -> dict[str, Any]:
    """What the study recommends: a trial, or the fastest exact way."""
    number, exact = study["answer"]["trial"], f"dense: {study['answer'].get('fastest_exact')}"
    found: Mapping[str, Any] = next(
        (t for t in study["trials"] if (t["label"] == exact if number is None else t["number"] == number)), {}
    )
    names = ("label", "tokens_per_s", "tokens_per_s_low", "tokens_per_s_high", "throughput_kind")
    return {name: found.get(name) for name in (*names, "kl", "kl_low", "kl_high")}


def _ratio(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float] | None:
    """The first's throughput over the second's, from interval to interval: 95% at least."""
    bounds = [best[name] for best in (one, other) for name in ("tokens_per_s_low", "tokens_per_s_high")]
    if not all(bounds):
        return None
    low, high, other_low, other_high = bounds
    return low / other_high, high / other_low


def _sentence(differ: Mapping[str, Any], ratio: tuple[float, float] | None, faster: str, best: list) -> str:
    if ratio is None:
        return "Whose best is faster cannot be told: one of them has no interval."
    apart = [name for name in differ if name.startswith(("workload", "accuracy_model"))]
    which = f"{faster}'s best is faster" if faster != NEITHER else "whose best is faster cannot be told"
    kl = (
        "" if best[0]["kl"] is None or best[1]["kl"] is None else f", at KL {best[0]['kl']:.4f} and {best[1]['kl']:.4f}"
    )
    said = f"{which[0].upper()}{which[1:]}: the first does {ratio[0]:.2f} to {ratio[1]:.2f} times the second{kl}."
    return said + (f" They are of different things: {', '.join(apart)}." if apart else "")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)[:60]
