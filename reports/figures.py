"""Every figure of a report by its name, as plain plotly JSON; a name that ends in a number is one of several."""

from . import layers, maps, methods, plots, rivals, scaling, step_times, thread_sweep
from .measured import Measured
from .record import Study


def figures(study: Study, measured: Measured) -> dict[str, dict]:
    """Those that there is data for: pareto, threads, steps, layers, rivals-0.., map-0.., scaling-0.., methods-0.. ."""
    found = {
        "pareto": plots.pareto(study),
        "threads": thread_sweep.by_threads(study),
        "steps": step_times.step_times(study),
        "layers": layers.layer_times(measured),
    }
    several = {
        "rivals": rivals.rivals(measured),
        "map": maps.k_l_maps(study),
        "scaling": scaling.scaling(measured),
        "methods": methods.methods(study, measured),
    }
    found |= {f"{name}-{i}": one for name, own in several.items() for i, one in enumerate(own)}
    return {name: one for name, one in found.items() if one}


def group(name: str) -> str:
    """What a figure belongs to: "map" of "map-2"."""
    return name.split("-")[0]
