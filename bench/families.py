"""Hash families side by side on a model's real keys: keys read and output error of indexes of equal bits and tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from truffle.bench.dense_run import DenseRun
from truffle.bench.probing_front import index_bytes_per_token
from truffle.model.config import DecodeConfig, Execution, LshParameters
from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.collisions import Collisions
from truffle.model.methods.choosing.selector import View, view_of
from truffle.model.methods.families import law_of
from truffle.model.operations import Operations

FAMILIES: dict[str, dict[str, Any]] = {
    "simhash": {},
    "simple_lsh": {"family": "simple_lsh"},
    **{f"cross_polytope {m}": {"family": "cross_polytope", "coordinates": m} for m in (4, 16, 64)},
}
BITS, TABLES = range(7, 13), (75, 150)
TAKEN = tuple(itertools.product(TABLES, (1, 2)))  # tables, and how many of them must hold a key
DENSITIES = (0.02, 0.05, 0.1)


def settings(bits: range = BITS) -> list[tuple[str, LshParameters]]:
    """Every family with every K that one of its hashes fits, and the most tables; fewer are the first of these."""
    return [
        (name, LshParameters(K=K, L=max(TABLES), seal_tokens=1, **kind))
        for name, kind in FAMILIES.items()
        for K in bits
        if kind.get("coordinates", 1).bit_length() <= K
    ]


def measure_families(
    run: DenseRun, compared: list[tuple[str, LshParameters]], threads: int
) -> Iterator[list[dict[str, Any]]]:
    """Flat records of one setting at a time, one for every number of tables and of hits: means over layers, heads and
    queries. All queries attend the prompt alone, so that one index serves them."""
    ops = Operations(DecodeConfig(execution=Execution(threads=threads)), "cpu")
    sparse = [layer for layer in range(len(run.keys)) if layer not in LshParameters().dense_layers]
    views = {layer: _views(run, layer) for layer in sparse}
    for name, p in compared:
        found: list[np.ndarray] = []
        for layer, seen in views.items():
            collisions = Collisions(p, layer, seen[0].q.shape[-1], ops)
            collisions.add(seen[0].keys)
            found += [_figures(collisions, view) for view in seen]
        yield [
            {
                "family": name, "K": p.K, "L": L, "min_hits": min_hits, "output_error": error, "density": density,
                "index_bytes": index_bytes_per_token(p.K, L),
            }
            for (L, min_hits), (error, density) in zip(TAKEN, np.mean(found, axis=0).tolist(), strict=True)
        ]  # fmt: skip


def _views(run: DenseRun, layer: int, p: LshParameters = LshParameters()) -> list[View]:  # noqa: B008 - frozen
    """What the queries of one layer see of the prompt, keys as a bfloat16 store has them."""
    keys, values = (x[layer].bfloat16().float() for x in (run.keys, run.values))
    return [view_of(step[layer].q[0], keys, values, p.sink, p.window) for step in run.steps]


def _figures(collisions: Collisions, view: View) -> np.ndarray:
    """Output error and density, means over heads, of each of TAKEN."""
    exact = view.attend(Chosen(torch.ones_like(view.scores, dtype=torch.int64), torch.ones_like(view.scores)))
    hits, _ = collisions.hits(collisions.question(view))
    shared = {L: hits[:, :, :L].sum(2, dtype=torch.int32) for L in TABLES}
    found = []
    for L, min_hits in TAKEN:
        law = law_of(collisions.parameters.model_copy(update={"L": L, "min_hits": min_hits}))
        taken = shared[L] >= min_hits
        out = view.attend(Chosen(taken.long(), collisions.inclusion(view, law)))
        error = (out - exact).norm(dim=-1) / exact.norm(dim=-1)
        found.append((float(error.mean()), float(taken.float().mean())))
    return np.array(found)


def at_equal_density(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For families of equal tables and hits, output error and index bytes at DENSITIES, between neighbouring K.

    Logarithms are interpolated linearly; None where no two K lie around a density.
    """
    found = []
    keys = sorted({(r["L"], r["min_hits"], list(FAMILIES).index(r["family"])) for r in records})
    for (L, min_hits, family), density in itertools.product(keys, DENSITIES):
        name = list(FAMILIES)[family]
        front = [r for r in records if (r["family"], r["L"], r["min_hits"]) == (name, L, min_hits)]
        common = {"family": name, "L": L, "min_hits": min_hits, "at_density": density}
        figures = {key: _interpolated(front, density, key) for key in ("output_error", "index_bytes")}
        found.append({**common, **figures})
    return found


def _interpolated(front: list[dict[str, Any]], density: float, key: str) -> float | None:
    densities, values = (
        np.log([r[name] for r in sorted(front, key=lambda r: r["density"])]) for name in ("density", key)
    )
    inside = densities[0] <= np.log(density) <= densities[-1]
    return float(np.exp(np.interp(np.log(density), densities, values))) if inside else None
