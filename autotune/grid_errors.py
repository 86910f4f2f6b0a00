"""Errors of a grid's settings: on a model where its weights are at hand, or else on one synthetic layer."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from truffle.autotune.evaluate import AccuracyMeter
from truffle.autotune.grid import GridErrors
from truffle.bench import layer_error
from truffle.bench.accuracy import Setting
from truffle.bench.scored import GROUP_CORRELATION, scored_layer
from truffle.bench.workloads import Workload
from truffle.model.config import DecodeConfig, Execution
from truffle.model.operations import Operations

Errors = Callable[[DecodeConfig], dict[str, float | None]]
SYNTHETIC = "none"
LAYER = "a synthetic layer, the square of whose output error stands in for KL"
CONTEXT, STEPS, SCREENED = 8192, 6, 2
SETTING = Setting(2048, 1, 12)


def errors_on(model: str, workload: Workload, threads: int) -> tuple[Errors, GridErrors]:
    """What measures the accuracy of a config, and what it is measured on; `model` may be ``"none"``.

    Raises:
        ValueError: the model cannot be loaded.
    """
    if model == SYNTHETIC:
        return _on_layer(workload, threads)
    meter = AccuracyMeter(model, SETTING, threads, (), lambda text: print(text, file=sys.stderr))
    meter.prepare()
    on = GridErrors(model=model, context=SETTING.context, samples=SETTING.samples, steps=SETTING.steps)
    return lambda config: {**meter.statistics(config), **meter.output_error(config), **meter.kl(config)}, on


def _on_layer(workload: Workload, threads: int) -> tuple[Errors, GridErrors]:
    """KL is not known without a model: the square of the output error, which it goes with, stands in for it."""
    context = min(CONTEXT, workload.context)
    layer = scored_layer(workload.shape, context, STEPS, 0, GROUP_CORRELATION)
    exact = [layer.exact(step) for step in range(STEPS)]

    def measure(config: DecodeConfig) -> dict[str, float | None]:
        here = Execution(threads=threads, store_format=config.execution.store_format)
        config = config.model_copy(update={"execution": here, "implementations": {}})
        cache = layer_error.filled_cache(layer, workload.shape, config, Operations(config, "cpu"))
        steps = layer_error.step_errors(layer, cache, exact)
        found, screened = layer_error.summarised([steps]), layer_error.summarised([steps[:SCREENED]], draws=2)
        kl = {"kl": "output_error", "kl_low": "output_error_low", "kl_high": "output_error_high"}
        return {
            **{name: found[name] for name in layer_error.FIGURES}, "screen_error": screened["output_error"],
            **{name: float(np.square(found[of])) for name, of in kl.items()},
        }  # fmt: skip

    return measure, GridErrors(model=LAYER, context=context, samples=1, steps=STEPS)
