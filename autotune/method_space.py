"""What is tried of every method but lsh, whose tables and kernels space.py knows: a method's ranges, in one table.

Budgets are fractions, so that they mean at the workload's context what they meant where the error was measured.
Streaming's sink and window are counts and do not: its ranges stay small beside the prompts that measure it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import optuna

from truffle.kernels.checks import expect
from truffle.model.config import METHODS, MethodParameters, SelectingParameters


@dataclass(frozen=True)
class Span:
    """From `low` to `high`, whole numbers where those are."""

    low: float
    high: float
    log: bool = True


@dataclass(frozen=True)
class Asked:
    """Values that are asked for only `where` other parameters have one of these."""

    among: Span | tuple[Any, ...]
    where: dict[str, tuple[Any, ...]] = field(default_factory=dict)


BUDGET, PAGES = Asked(Span(0.005, 0.3)), (8, 16, 32, 64)
RANGES: dict[str, dict[str, Asked]] = {
    "dense": {},
    "streaming": {"sink": Asked(Span(1, 64)), "window": Asked(Span(64, 512))},
    "scan": {
        "bits": Asked((1, 2, 4)),
        "budget": Asked(Span(0.002, 0.1)),
        "per": Asked(("group", "head")),
        "floor": Asked(Span(0.02, 0.5)),
    },
    "oracle_topk": {"budget": BUDGET},
    "oracle_topp": {"mass": Asked(Span(0.5, 0.99, log=False))},
    "quest": {"budget": BUDGET, "page_size": Asked(PAGES)},
    "oracle_sampling": {"budget": BUDGET, "draws": Asked(("iid", "systematic"))},
    "uniform": {"budget": BUDGET},
    "priority": {"budget": BUDGET},
    "vattention": {
        "heavy": Asked(("oracle", "quest", "lsh")),
        "heavy_budget": BUDGET,
        "base_budget": BUDGET,
        "epsilon": Asked(Span(0.02, 0.5)),
        "delta": Asked(Span(0.02, 0.4)),
        "bound": Asked(("clt", "bernstein", "hoeffding"), {"heavy": ("oracle", "quest")}),
        "check": Asked(("denominator", "both"), {"bound": ("clt",)}),
        "page_size": Asked(PAGES, {"heavy": ("quest",)}),
        "K": Asked(Span(6, 13, log=False), {"heavy": ("lsh",)}),
        "L": Asked(Span(10, 320, log=False), {"heavy": ("lsh",)}),
        "min_hits": Asked(Span(1, 2, log=False), {"heavy": ("lsh",)}),
    },
}


def parse_methods(text: str) -> tuple[str, ...]:
    """The methods of a list such as ``lsh,quest``, each once, in the order of METHODS.

    Raises:
        ArgumentError: one is not known, or there is none.
    """
    named = [part.strip() for part in text.split(",")]
    for name in named:
        expect(name in METHODS, "methods", f"some of {', '.join(METHODS)}", repr(name))
    return tuple(method for method in METHODS if method in named)


def is_reference(method: str) -> bool:
    """Whether a method has no kernels, and runs as it is written down in torch."""
    return issubclass(METHODS[method], SelectingParameters)


def default_point(method: str) -> dict[str, Any]:
    """A method's own defaults as a point of its space."""
    fields = METHODS[method].model_fields
    return _asked(method, lambda name, among: fields[name].default)


def suggested_point(trial: optuna.Trial, method: str) -> dict[str, Any]:
    """A method's parameters as the sampler asks for them, ``method.name`` each: only what makes a difference."""
    return _asked(method, lambda name, among: _suggested(trial, f"{method}.{name}", among))


def point_parameters(method: str, point: dict[str, Any], seed: int) -> MethodParameters:
    """The parameters of a point; what is not in it is the method's own."""
    given = {name.partition(".")[2]: value for name, value in point.items() if name.startswith(f"{method}.")}
    seeded = {"seed": seed} if "seed" in METHODS[method].model_fields else {}
    return METHODS[method].model_validate(given | seeded)


def label(p: MethodParameters) -> str:
    """The method, and what is not as its defaults are."""
    fields = type(p).model_fields
    settings = {name: getattr(p, name) for name in RANGES[p.method] if getattr(p, name) != fields[name].default}
    shown = (f"{value:.3g}" if isinstance(value, float) else str(value) for value in settings.values())
    return ", ".join([p.method, *(f"{name} {value}" for name, value in zip(settings, shown, strict=True))])


def _asked(method: str, value_of: Callable[[str, Span | tuple[Any, ...]], Any]) -> dict[str, Any]:
    settings = {name: info.default for name, info in METHODS[method].model_fields.items()}
    point = {}
    for name, asked in RANGES[method].items():
        if all(settings[other] in values for other, values in asked.where.items()):
            point[f"{method}.{name}"] = settings[name] = value_of(name, asked.among)
    return point


def _suggested(trial: optuna.Trial, name: str, among: Span | tuple[Any, ...]) -> Any:
    if isinstance(among, tuple):
        return trial.suggest_categorical(name, among)
    if isinstance(among.low, int) and isinstance(among.high, int):
        return trial.suggest_int(name, among.low, among.high, log=among.log)
    return trial.suggest_float(name, among.low, among.high, log=among.log)
