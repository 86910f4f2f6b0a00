"""What methods are called in a table of several."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

from truffle.model.config import METHODS

PLAIN = ("family", "coordinates")  # which say themselves what they are
DENSITY_SETS = ("budget", "heavy_budget", "base_budget")  # which a table has a column for
Described = tuple[str, str]


def described(row: dict[str, Any]) -> Described:
    """The method of a record and its parameters."""
    return row["method"], row["parameters"]


def method_names(rows: Iterable[dict[str, Any]]) -> dict[Described, str]:
    """A name for each method of these records: what it is, and where a method comes several times what tells them
    apart."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for method, parameters in map(described, rows):
        found.setdefault(method, {})[parameters] = json.loads(parameters)
    names = {}
    for method, variants in found.items():
        apart = [name for name in _apart(variants.values()) if name not in DENSITY_SETS]
        for text, parameters in variants.items():
            names[method, text] = " ".join([_head(method, parameters), *_tails(method, parameters, apart)])
    return names


def line_names(rows: Iterable[dict[str, Any]]) -> dict[Described, str]:
    """As method_names, but without tables that a density chose: what a method is called at all densities."""
    rows = list(rows)
    names = method_names(rows)
    for method, text in _sized_tables(rows):
        tables = _head(method, json.loads(text))
        names[method, text] = method + names[method, text].removeprefix(tables)
    return names


def _sized_tables(rows: list[dict[str, Any]]) -> set[Described]:
    """Each lsh of one of several densities; tables that were asked for have none."""
    sized = [row for row in rows if row["method"] == "lsh" and row["asked_density"] is not None]
    several = len({row["asked_density"] for row in sized}) > 1
    return {described(row) for row in sized} if several else set()


def _apart(variants: Iterable[dict[str, Any]]) -> list[str]:
    """Parameters in which variants differ, in their own order."""
    variants = list(variants)
    return [name for name, first in variants[0].items() if any(v[name] != first for v in variants)]


def _head(method: str, parameters: dict[str, Any]) -> str:
    if method == "lsh":
        return f"lsh ({parameters['K']}, {parameters['L']})"
    if method == "scan":
        bits = parameters["bits"]
        return f"scan {bits} bit{'s' * (bits > 1)}, {parameters['per']}"
    return method


def _tails(method: str, parameters: dict[str, Any], apart: list[str]) -> Iterable[str]:
    """What of the parameters that tell variants apart is not as it is by default."""
    told, usual = {"lsh": ("K", "L"), "scan": ("bits", "per")}.get(method, ()), _defaults(method)
    for name in apart:
        value = parameters[name]
        if name in told or value == usual[name]:
            continue
        if isinstance(value, dict):  # probing
            yield f"{value['kind']} {value['amount']}"
        else:
            shown = ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value).lower()
            yield shown if name in PLAIN else f"{name} {shown}"


@functools.cache
def _defaults(method: str) -> dict[str, Any]:
    return METHODS[method]().model_dump(mode="json")
