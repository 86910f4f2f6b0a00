"""Runs a workload's layers on this machine: all of them on a card, on the CPU a few of each kind, scaled."""

from __future__ import annotations

import functools
import gc
from typing import Any

import torch

from truffle.autotune.memory import WEIGHT_BYTES, gpu_shortage, memory
from truffle.autotune.target import Target
from truffle.bench import decode, synthetic, whole_step
from truffle.bench.vram import limit_vram
from truffle.bench.workloads import Workload
from truffle.model.config import DecodeConfig

STEPS, WITHIN_S = 20, 10.0  # of a step that takes half a second and more, fewer tell enough


class WholeLayers:
    """Times steps on the target, this machine.

    Where the target's card is held to a limit, so is this process from now on. All that a step needs of the card is
    built there; sampled layers share only what they have on the host.
    """

    def __init__(self, workload: Workload, target: Target) -> None:
        """Raises ArgumentError where the limit leaves no room for the weights."""
        self._workload, self._target = workload, target
        if target.vram_limit_bytes is not None:
            there = torch.cuda.mem_get_info()[1]  # a profile may say a little more
            limit_vram(min(target.vram_limit_bytes, there), workload.shape.parameters * WEIGHT_BYTES)

    def run(self, config: DecodeConfig) -> dict[str, Any]:
        """Figures of a record.

        Raises:
            RuntimeError: the whole model does not fit the card, counted beforehand or as it is built.
        """
        torch.set_num_threads(config.execution.threads)
        samples_us: list[float] = []
        timed = (self._on_card if self._target.gpu else self._on_cpu)(config, samples_us)
        return {
            "tokens_per_s": timed["tokens_per_s"],
            "tokens_per_s_low": timed["tokens_per_s_low"],
            "tokens_per_s_high": timed["tokens_per_s_high"],
            "throughput_kind": "measured",
            "step_ms": timed["median_us"] / 1e3,
            "sampled_fraction": timed["density"],
            "samples": {"step_ms": [us / 1e3 for us in samples_us]},
        }

    @functools.cached_property
    def _material(self) -> whole_step.Material:
        """What all points have in common, which takes seconds to make."""
        return synthetic.material(self._workload, "cuda", torch.bfloat16)

    def _on_cpu(self, config: DecodeConfig, samples_us: list[float]) -> dict[str, Any]:
        return decode.time_workload(self._workload, config, STEPS, torch.bfloat16, samples_us)

    def _on_card(self, config: DecodeConfig, samples_us: list[float]) -> dict[str, Any]:
        shape, context = self._workload.shape, self._workload.context
        shortage = gpu_shortage(memory(shape, config, context, has_gpu=True), self._target)
        if shortage:
            raise RuntimeError(shortage)
        gc.collect()  # a decoder and its captured parts refer to one another
        torch.cuda.empty_cache()
        how = ("cuda", torch.bfloat16, self._material, samples_us, WITHIN_S)
        return whole_step.time_steps(self._workload, config, STEPS, *how)[0]
