"""A run on the card that is held to a limit, for real."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.autotune.fakes import space
from truffle.autotune.whole_layers import WholeLayers
from truffle.model.config import DecodeConfig, LshParameters

pytestmark = pytest.mark.gpu

GIB = 2**30


def test_a_run_stays_within_the_limit():
    """Llama-3.2-1B weighs 2.3 GiB in bfloat16."""
    there = space(workload="llama-3.2-1b@8k", gpu="h200", vram_limit_gib=8, present=True)
    larger, config = space(workload="llama-3.1-8b@8k").workload, DecodeConfig(parameters=LshParameters())
    try:
        figures = WholeLayers(there.workload, there.target).run(config)
        assert figures["throughput_kind"] == "measured"
        assert torch.cuda.max_memory_reserved() < 8 * GIB
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(8 * GIB, dtype=torch.uint8, device="cuda")
        roomy = dataclasses.replace(there.target, vram_limit_bytes=None)  # the process is held to it nevertheless
        with pytest.raises(RuntimeError, match="out of memory"):
            WholeLayers(larger, roomy).run(config)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
