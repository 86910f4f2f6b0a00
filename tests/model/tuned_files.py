"""A tuned file to change."""

from __future__ import annotations

from typing import Any

from truffle.model import tuned
from truffle.model.config import DecodeConfig, Execution, LshParameters
from truffle.model.shapes import SHAPES
from truffle.model.tuned import Figure, TunedConfig

FIGURE = Figure(value=9.5, ci95=(9.0, 10.0), kind="estimated", measured_on="rtx-4090")


def made(**changes: Any) -> TunedConfig:
    """A file for an RTX 4090, with some of its top-level entries changed."""
    whole = TunedConfig(
        created="2026-01-01T00:00:00+00:00",
        generator=tuned.Generator(name="truffle", version="0.1.0"),
        hardware=tuned.Hardware(
            profile="rtx-4090",
            gpu=tuned.Gpu(name="NVIDIA GeForce RTX 4090", memory_bytes=24 << 30, present=False),
            cpu=tuned.Cpu(model="A CPU", logical_cpus=16),
            link=tuned.Link(gen=4, width=16),
            kind="estimated",
        ),
        model=tuned.Model(id="llama-3.1-8b", architecture="llama", shape=SHAPES["llama-3.1-8b"]),
        workload=tuned.Workload(context=98_304, new_tokens=128),
        config=DecodeConfig(
            parameters=LshParameters(K=9, L=120),
            execution=Execution(batch_size=2, threads=15, isa="avx512", pinning="cores"),
            implementations={"hash_codes": "gpu_triton", "retrieve": "cpu_native"},
        ),
        evidence=tuned.Evidence(accuracy={"kl": FIGURE}, throughput={"tokens_per_s": FIGURE}, baselines={}),
        study=tuned.Study(trials=24, failed=0, seconds=300.0, stop_reason="trials", complete=True),
    )
    return whole.model_copy(update=changes)
