"""Which DecodeConfig a method at a density is, so that methods are compared at equal density."""

from __future__ import annotations

import argparse
import bisect
import functools
import math
from dataclasses import dataclass, replace
from typing import Any

from truffle.bench.calibration import expected_fraction
from truffle.bench.method_list import Asked
from truffle.kernels.checks import expect
from truffle.model.arguments import decode_config
from truffle.model.config import METHODS, DecodeConfig, Execution, LshParameters
from truffle.model.selecting_parameters import SEAL_TOKENS

BITS, MOST_TABLES, USUAL_TABLES = range(4, 13), 150, 100
COSINE_DEVIATION = 0.17  # at which the law finds as many keys as tables do in SmolLM2's, on average over tasks at 4K
DENSE = Asked("dense", {})
PROBINGS = ("ball", "directed")
NEVER_EXTENDED = {"epsilon": 0.99, "delta": 0.5}  # a base of b keys then asks for less than b: its z / epsilon is < 1


@dataclass(frozen=True)
class Contender:
    """A method as it decodes, the density it was asked for, None where it has none or sets its own, and how it was."""

    config: DecodeConfig
    density: float | None
    asked: Asked


def contenders(methods: list[Asked], densities: list[float], arguments: argparse.Namespace) -> list[Contender]:
    """Every method at every density, dense first; parsed `arguments` are what add_decode_arguments adds.

    An option of a method's own, or a parameter that was given and that the method has, comes before what the density
    says.

    Raises:
        ValueError: a value out of range, or a parameter that none of the methods has.
    """
    for density in densities:
        expect(0 < density <= 1, "densities", "numbers above 0, 1 at most", density)
    _require_used([asked.method for asked in methods], arguments)
    return [
        contender
        for asked in [DENSE, *(asked for asked in methods if asked != DENSE)]
        for contender in _at_densities(asked, list(dict.fromkeys(densities)), arguments)
    ]


def _at_densities(asked: Asked, densities: list[float], arguments: argparse.Namespace) -> list[Contender]:
    """The method at each density, and once where no density changes it."""
    found = [Contender(_config(asked, density, arguments), density, asked) for density in densities]
    if not sizes(asked.method, 1.0) or (len(found) > 1 and all(one.config == found[0].config for one in found)):
        return [replace(found[0], density=None)]
    return found


def sizes(method: str, density: float) -> dict[str, Any]:
    """Parameters that make a method attend to this share of the keys; none where it has no such.

    `oracle_topp` has none: how many keys hold a share of the attention is what it finds, by head and step. In SmolLM2's
    prose a mass of 0.9 is held by 4.4% of 1,024 keys but by 2.0% of 4,096, so that no table of masses could be trusted
    with another context or other prompts, and a mass fitted to the answers would have seen them. It runs with its own.
    """
    if method == "lsh":
        K, L = nearest_tables(density)
        return {"K": K, "L": L, "seal_tokens": SEAL_TOKENS}  # or a short prompt would be attended whole
    if method == "scan":
        return {"budget": density, "seal_tokens": SEAL_TOKENS}
    if method == "vattention":
        return {"heavy_budget": density / 2, "base_budget": density / 2, **NEVER_EXTENDED}
    return {"budget": density} if "budget" in METHODS[method].model_fields else {}


@functools.cache
def nearest_tables(density: float) -> tuple[int, int]:
    """(K, L), min_hits 2, of this expected density or the nearest to it, with about USUAL_TABLES tables."""
    within = [(K, L) for K in BITS if (L := _tables_for(density, K)) < MOST_TABLES]
    return min(within, key=lambda tables: abs(math.log(tables[1] / USUAL_TABLES)), default=(BITS[0], MOST_TABLES))


def _tables_for(density: float, K: int) -> int:
    """The fewest tables of K bits that find this share of the keys, MOST_TABLES where no fewer do."""
    return bisect.bisect_left(
        range(MOST_TABLES),
        density,
        lo=LshParameters(K=K).min_hits,
        key=lambda L: expected_fraction(LshParameters(K=K, L=L), COSINE_DEVIATION),
    )


def _config(asked: Asked, density: float, arguments: argparse.Namespace) -> DecodeConfig:
    own = argparse.Namespace(**vars(arguments))
    own.method, fields = asked.method, METHODS[asked.method].model_fields
    for name in set(_given(arguments)) - set(fields):
        setattr(own, name, None)
    if own.method != "lsh":
        own.ball, own.directed, own.impl = None, None, []
    if "centred" not in fields:
        own.no_centring, own.store_format = False, Execution().store_format  # it has no store
    if not asked.options.keys().isdisjoint(PROBINGS):
        own.ball, own.directed = None, None
    for name, value in asked.options.items():
        setattr(own, name, value)
    for name, value in sizes(own.method, density).items():
        if getattr(own, name) is None:
            setattr(own, name, value)
    return decode_config(own)


def _require_used(methods: list[str], arguments: argparse.Namespace) -> None:
    for name in _given(arguments):
        having = [method for method, kind in METHODS.items() if name in kind.model_fields]
        used = any(method in methods for method in having)
        expect(used, name, f"one of {', '.join(having)} among methods", ", ".join(methods))
    given = [name for name in (*PROBINGS, "impl") if getattr(arguments, name)]
    expect("lsh" in methods or not given, given[0] if given else "", "lsh among methods", ", ".join(methods))
    centring = not arguments.no_centring or not {"lsh", "scan"}.isdisjoint(methods)
    expect(centring, "no_centring", "lsh or scan among methods", ", ".join(methods))


def _given(arguments: argparse.Namespace) -> list[str]:
    """Names of the parameters that were given."""
    names = {name for kind in METHODS.values() for name in kind.model_fields} - {"probing", "centred"}
    return sorted(name for name in names if getattr(arguments, name) is not None)
