"""What records of tasks come to: scores, and paired differences to exact decoding of the same samples."""

from __future__ import annotations

from typing import Any

import numpy as np

DRAWS = 10_000
ALL = "all"
SHARED = ("model", "device", "dtype", "context", "setup", "seed", "head_dim")
CONTENDER = ("method", "asked_density", "parameters")


def paired_interval(ours: np.ndarray, theirs: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95% percentile bootstrap interval of the mean of ours - theirs [n], each sample drawn with its pair.

    Raises:
        ValueError: there are not as many of each, or none.
    """
    if ours.shape != theirs.shape or ours.ndim != 1 or not len(ours):
        raise ValueError(f"theirs: expected as many scores as ours, one or more, got {theirs.shape} and {ours.shape}")
    drawn = np.random.default_rng(seed).integers(0, len(ours), (DRAWS, len(ours)))
    low, high = np.quantile((ours - theirs)[drawn].mean(1), [0.025, 0.975])
    return float(low), float(high)


def summarise_tasks(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A flat row a task and contender, and over all samples of all tasks where there are several tasks.

    Of each the mean `score`, its `difference` to dense in points, with its 95% interval in `difference_low` and
    `difference_high` where there are two samples or more, and the mean `density` that was observed; and of records
    that have it the mean `output_error`, with its interval likewise.
    """
    tasks = list(dict.fromkeys(record["task"] for record in records))
    rows = []
    for task in [*tasks, *([ALL] if len(tasks) > 1 else [])]:
        chosen = [record for record in records if task in (record["task"], ALL)]
        dense = {_sample(record): record["score"] for record in chosen if record["method"] == "dense"}
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for record in chosen:
            groups.setdefault(tuple(record[name] for name in CONTENDER), []).append(record)
        rows += [_row(task, group, dense) for group in groups.values()]
    return rows


def _row(task: str, group: list[dict[str, Any]], dense: dict[tuple[Any, ...], float]) -> dict[str, Any]:
    ours = np.array([record["score"] for record in group])
    theirs = np.array([dense[_sample(record)] for record in group])
    low, high = paired_interval(ours, theirs) if len(ours) > 1 else (None, None)
    densities = [record["density"] for record in group if record["density"] is not None]
    shared = [name for name in (*SHARED, *CONTENDER, "store_format") if name in group[0]]
    return {
        "op": f"{group[0]['op']}_summary", **{name: group[0][name] for name in shared}, "task": task,
        "samples": len(group), "score": float(ours.mean()), "difference": float((ours - theirs).mean()),
        "difference_low": low, "difference_high": high,
        "density": float(np.mean(densities)) if densities else None, **_error(group),
    }  # fmt: skip


def _error(group: list[dict[str, Any]]) -> dict[str, float | None]:
    """The mean output error with its interval, of records that have one."""
    if "output_error" not in group[0]:
        return {}
    errors = np.array([record["output_error"] for record in group])
    low, high = paired_interval(errors, np.zeros_like(errors)) if len(errors) > 1 else (None, None)
    return {"output_error": float(errors.mean()), "output_error_low": low, "output_error_high": high}


def _sample(record: dict[str, Any]) -> tuple[Any, ...]:
    return record["task"], record["sample"]
