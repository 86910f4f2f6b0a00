"""Times whole decode steps of contenders side by side, as many at once as the device's memory holds."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from truffle.bench.commands import described
from truffle.bench.quiet import wait_until_quiet
from truffle.bench.rivals.contenders import MAGICPIG, OURS, Contender, Ground
from truffle.bench.timing import interleaved_s, median_ci95, quantiles_us, ratio_ci95
from truffle.kernels.memory import release_memory
from truffle.model.generate import DensityMeter
from truffle.model.llama import Decoder

ROUNDS, TURN_STEPS = 5, 4
# Of exact attention by different kernels on bfloat16: the first layer's queries are the same for all, later ones drift.
FIRST_LAYER_RMS, ALL_LAYERS_RMS = 0.02, 0.2

Record = dict[str, Any]


class Entrant:
    """A decoder that takes steps one after another; the first, observed one is taken at once.

    Attributes:
        attended: attention outputs of the first step by layer, [b, H, d] float32 on the host.
        density: of the first step, None where everything is attended.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder, meter = decoder, DensityMeter()
        self.attended: list[torch.Tensor] = []

        def observe(index: int, cache: Any, *tensors: torch.Tensor) -> None:
            meter(index, cache, *tensors)
            self.attended.append(tensors[-1].float().cpu())

        self._tokens = torch.zeros(len(decoder.lengths), dtype=torch.int64, device=decoder.weights.device)
        decoder.observer = observe
        self()
        decoder.observer = None
        self.density = meter.density

    def __call__(self) -> None:
        self._tokens = self._decoder.step(self._tokens).argmax(-1)
        if self._tokens.is_cuda:
            torch.cuda.synchronize()


@torch.inference_mode()
def race(ground: Ground, field: Sequence[Contender]) -> list[Record]:
    """A record a contender: times of whole steps, or why there are none.

    Contenders of one `heat` were on the device together and took turns; heats follow one another. An exact rival is
    timed only if its first step's attention agrees with that of the first exact one.
    """
    samples: dict[str, list[float]] = {}
    records = {c.name: {"contender": c.name, **described(c.config), "exact": c.exact, "reason": c.reason,
                        "device_bytes": c.device_bytes, **c.figures} for c in field}  # fmt: skip
    exact: list[torch.Tensor] = []
    for number, heat in enumerate(heats([c for c in field if c.reason is None], ground.room_bytes)):
        print(f"heat {number}: {', '.join(c.name for c in heat)}", file=sys.stderr)
        samples |= _run(heat, records, exact)
        for contender in heat:
            records[contender.name]["heat"] = number
        _clear()
    _conclude(records, {name: np.array(times) for name, times in samples.items()})
    return list(records.values())


def heats(field: Sequence[Contender], room_bytes: int) -> list[list[Contender]]:
    """The contenders in groups that fit into the room together, each in the first that has place."""
    found: list[list[Contender]] = []
    for contender in field:
        heat = next((heat for heat in found if _peak_bytes([*heat, contender]) <= room_bytes), None)
        if heat is None:
            found.append([contender])
        else:
            heat.append(contender)
    return found


def _peak_bytes(heat: Sequence[Contender]) -> int:
    return sum(c.device_bytes for c in heat) + max(c.building_bytes for c in heat)


def _run(heat: Sequence[Contender], records: dict[str, Record], exact: list[torch.Tensor]) -> dict[str, list[float]]:
    entrants: dict[str, Entrant] = {}
    for contender in heat:
        record, started = records[contender.name], time.perf_counter()
        try:
            entrant = Entrant(contender.build())
            record["density"] = entrant.density
            if contender.exact:
                record["reason"] = _disagreement(entrant, exact, record)
            if record["reason"] is None:
                entrant()  # captures
                entrants[contender.name] = entrant
        except Exception as error:  # the record keeps what went wrong; the others are timed
            record["reason"] = f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        record["build_s"] = time.perf_counter() - started
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            free, total = torch.cuda.mem_get_info()
            record["gpu_used_bytes"] = total - free  # by all of the heat that have been built
    return interleaved_s(entrants, 0.0, wait_until_quiet, ROUNDS, TURN_STEPS) if entrants else {}


def _disagreement(entrant: Entrant, exact: list[torch.Tensor], record: Record) -> str | None:
    exact.append(torch.stack(entrant.attended))
    errors = [float((exact[-1][part] - exact[0][part]).norm() / exact[0][part].norm()) for part in (0, slice(None))]
    if errors[0] <= FIRST_LAYER_RMS and errors[1] <= ALL_LAYERS_RMS:
        record["attention_relative_rms"] = errors[1]
        return None
    return f"failed: attention differs by {errors[0]:.1e}, {errors[1]:.1e} (relative RMS: first layer, all layers)"


def _clear() -> None:
    gc.collect()
    release_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _conclude(records: dict[str, Record], samples: dict[str, np.ndarray]) -> None:
    """Add times, and ratios over the best exact rival and MagicPIG's kernels."""
    timed = [name for name in samples if records[name]["exact"]]
    best = min(timed, key=lambda name: float(np.median(samples[name])), default=None)
    for name, times in samples.items():
        record, (low, high) = records[name], median_ci95(times)
        figures = quantiles_us(list(times))
        record |= {**figures, "median_us_low": low * 1e6, "median_us_high": high * 1e6, "samples": len(times),
                   "tokens_per_s": record["batch"] / figures["median_us"] * 1e6,
                   "kind": "measured"}  # fmt: skip
        if best and not record["exact"]:
            record["best_exact"] = best
            record |= _ratio("faster_than_best_exact", samples[best], times)
        if name.startswith(OURS) and MAGICPIG in samples:
            record |= _ratio("faster_than_magicpig_v02", samples[MAGICPIG], times)
        if record.get("host_bytes_read"):
            record["host_bytes_per_s"] = record["host_bytes_read"] / figures["median_us"] * 1e6


def _ratio(name: str, slower: np.ndarray, faster: np.ndarray) -> Record:
    return dict(zip((name, f"{name}_low", f"{name}_high"), ratio_ci95(slower, faster), strict=True))
