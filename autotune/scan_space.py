"""What is tried of method scan beyond its own parameters: where codes and rows are, and what the host does of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import optuna

from truffle.autotune.exact_part import PLAIN_EXACT, asked_exact
from truffle.autotune.filling import OWN_LAYERS, read, written
from truffle.autotune.method_space import default_point, point_parameters, suggested_point
from truffle.autotune.record import ON_GPU
from truffle.autotune.space import GPU_KERNELS, STORE_FORMATS, Space
from truffle.kernels import registry
from truffle.model.config import DecodeConfig, ScanParameters

SCAN = ScanParameters.method
OPS, HOST, DEVICE, LINK = ("scan_sample", "sparse_attend"), "host", "device", "link"


def places(space: Space) -> tuple[str, ...]:
    """Where codes may be: on the model's device, on the host, or, where a GPU's kernels run, there with what attends:
    with the rows, or reading those over the link."""
    if space.target.gpu is None:
        return (HOST,)
    runs = all(registry.why_not(op, GPU_KERNELS) is None for op in OPS)
    return (DEVICE, HOST, LINK, ON_GPU) if runs else (DEVICE, HOST)


def suggested(space: Space, trial: optuna.Trial) -> dict[str, Any]:
    """A point as the sampler asks for it."""
    point = {**suggested_point(trial, SCAN), **asked_exact(trial)}
    point["batch_size"] = trial.suggest_int("batch_size", 1, space.most_batch, log=True)
    point["store_format"] = trial.suggest_categorical("store_format", STORE_FORMATS)
    if len(places(space)) > 1:
        point["codes"] = trial.suggest_categorical("codes", places(space))
    if point.get("codes") not in (LINK, ON_GPU):
        point |= space.on_host(trial, _host_ops(point))
    if point["dense_layers"] == written(OWN_LAYERS) and _filling(space, point):
        point["fill_vram"] = trial.suggest_categorical("fill_vram", (False, True))
    return point


def planned(space: Space) -> Iterator[tuple[str, dict[str, Any]]]:
    """The method as it is by default, one request on all threads; then filling the card, where that is a choice."""
    point = {**default_point(SCAN), **PLAIN_EXACT, "batch_size": 1, "store_format": STORE_FORMATS[0]}
    if len(places(space)) > 1:
        point["codes"] = DEVICE
    point |= space.plain_host(_host_ops(point))
    may_fill = _filling(space, point)
    yield "method", {**point, "fill_vram": False} if may_fill else point
    if may_fill:
        yield "search", {**point, "fill_vram": True}


def config(space: Space, point: dict[str, Any]) -> DecodeConfig:
    """The decode config of a point; what it says nothing of is as it is by default."""
    exact: dict[str, Any] = {f"{SCAN}.{name}": point[name] for name in ("sink", "window") if name in point}
    layers = _filling(space, point) if point.get("fill_vram") else point.get("dense_layers")
    exact[f"{SCAN}.dense_layers"] = read(layers)
    parameters = point_parameters(SCAN, {**point, **exact}, space.seed)
    if point.get("codes") == ON_GPU:
        named, how = dict.fromkeys(OPS, GPU_KERNELS), {**point, "codes": "auto"}
    elif point.get("codes") == LINK:
        named, how = dict[str, str](), {**point, "codes": "auto", "gather": LINK}
    else:
        by = point.get("kernels", "auto")
        named, how = {} if by == "auto" else dict.fromkeys(_host_ops(point), by), point
    return DecodeConfig(parameters=parameters, execution=space.execution(how), implementations=named)


def _filling(space: Space, point: dict[str, Any]) -> str | None:
    """The dense layers that fill what the point leaves of the card; None beside stores, or where that is no choice."""
    if point.get("codes") == ON_GPU:
        return None
    return space.filling_beside(config(space, {**point, "fill_vram": False}))


def _host_ops(point: dict[str, Any]) -> tuple[str, ...]:
    return ("sparse_attend",) if point.get("codes") == DEVICE else OPS
