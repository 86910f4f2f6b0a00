"""What is tried of method scan beyond its own parameters: where codes and rows are, and what the host does of it."""

from __future__ import annotations

from typing import Any

import optuna

from truffle.autotune.exact_part import PLAIN_EXACT, asked_exact
from truffle.autotune.filling import read
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
    apart = point.get("codes") not in (LINK, ON_GPU)
    return {**point, **space.on_host(trial, _host_ops(point))} if apart else point


def planned(space: Space) -> dict[str, Any]:
    """The method as it is by default, one request on all threads."""
    point = {**default_point(SCAN), **PLAIN_EXACT, "batch_size": 1, "store_format": STORE_FORMATS[0]}
    if len(places(space)) > 1:
        point["codes"] = DEVICE
    return {**point, **space.plain_host(_host_ops(point))}


def config(space: Space, point: dict[str, Any]) -> DecodeConfig:
    """The decode config of a point; what it says nothing of is as it is by default."""
    exact: dict[str, Any] = {f"{SCAN}.{name}": point[name] for name in ("sink", "window") if name in point}
    exact[f"{SCAN}.dense_layers"] = read(point.get("dense_layers"))
    parameters = point_parameters(SCAN, {**point, **exact}, space.seed)
    if point.get("codes") == ON_GPU:
        named, how = dict.fromkeys(OPS, GPU_KERNELS), {**point, "codes": "auto"}
    elif point.get("codes") == LINK:
        named, how = dict[str, str](), {**point, "codes": "auto", "gather": LINK}
    else:
        by = point.get("kernels", "auto")
        named, how = {} if by == "auto" else dict.fromkeys(_host_ops(point), by), point
    return DecodeConfig(parameters=parameters, execution=space.execution(how), implementations=named)


def _host_ops(point: dict[str, Any]) -> tuple[str, ...]:
    return ("sparse_attend",) if point.get("codes") == DEVICE else OPS
