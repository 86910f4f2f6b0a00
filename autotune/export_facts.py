"""What the exports say of a tuned config: its own entries, and what follows from them."""

from __future__ import annotations

import math
from typing import Any

from truffle.kernels.collision import CollisionLaw
from truffle.model.config import DecodeConfig, LshParameters
from truffle.model.tuned import TunedConfig

WARM_UP, SLACK = 32, 192  # tokens: of MagicPIG's bench.py, and how much longer than the prompt its tables must be
DENSE_EVERY = 16  # MagicPIG's dense layers


def facts_of(tuned: TunedConfig) -> dict[str, Any]:
    """Entries of the file by their names, and derived ones; plain JSON values."""
    whole = tuned.model_dump(mode="json")
    facts = {name: whole[name] for name in ("model", "workload", "hardware", "config")}
    return facts | whole["config"] | {"derived": _derived(tuned, whole)}


def _derived(tuned: TunedConfig, whole: dict[str, Any]) -> dict[str, Any]:
    shape, workload, execution = tuned.model.shape, tuned.workload, tuned.config.execution
    derived = {
        "entry": {"truffle": whole["config"]},
        "environment": environment(whole["config"]),
        "length": workload.context + workload.new_tokens,
        "group": shape.heads // shape.kv_heads,
        "resident": tuned.config.resident,
        "last_cpu": execution.threads - 1,
        "omp_proc_bind": "false" if execution.pinning == "none" else "true",
        "omp_wait_policy": {"park": "passive", "spin": "active"}[execution.wait_policy],
    }
    if isinstance(tuned.config.parameters, LshParameters):
        derived |= _of_tables(tuned, tuned.config.parameters)
    return derived


def _of_tables(tuned: TunedConfig, p: LshParameters) -> dict[str, Any]:
    shape, workload = tuned.model.shape, tuned.workload
    length = workload.context + max(SLACK, WARM_UP + workload.new_tokens)
    density, where = _density(tuned, p)
    return {
        "magicpig_length": length,
        "table_entries": tuned.config.execution.batch_size * shape.kv_heads * p.L * length,
        "dense_layers": sorted(layer for layer in {*p.dense_layers} if layer < shape.layers),
        "every_16th_layer": list(range(0, shape.layers, DENSE_EVERY)),
        "density": f"{density:.2%}",
        "density_from": where,
        "one_hit_L": one_hit_tables(p.K, density),
    }


def one_hit_tables(K: int, density: float) -> int:
    """Tables of K bits with which keys at right angles to the query are sampled this often, one hit being enough.

    The share is ``1 - (1 - 2^-K)^L`` (MagicPIG, arXiv 2410.16179, Eq. 21, for one hit).
    """
    return max(1, round(math.log1p(-min(density, 1 - 2**-K)) / math.log1p(-(2.0**-K))))


def _density(tuned: TunedConfig, p: LshParameters) -> tuple[float, str]:
    """The share of keys that the tuned tables sample: as measured, or else of keys at right angles to the query."""
    measured = tuned.evidence.accuracy.get("density")
    if measured is not None and 0 < measured.value < 1:
        return measured.value, f"measured on {measured.measured_on}"
    law = CollisionLaw(p.K, p.L, p.min_hits, p.probing.ball)
    return math.exp(float(law.log_inclusion(0.0))), "by chance: none was measured"


def environment(config: dict[str, Any]) -> dict[str, str]:
    """A config as variables, each entry by its own name; what is None is left out."""
    found = {"TRUFFLE_METHOD": config["method"]}
    for name, value in {**config["parameters"], **config["execution"], "impl": config["implementations"]}.items():
        inner = value if isinstance(value, dict) else {None: value}
        for part, plain in inner.items():
            if plain is not None:
                found["_".join(["TRUFFLE", *(str(word) for word in (name, part) if word)]).upper()] = _plain(plain)
    return found


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return str(int(value)) if isinstance(value, bool) else str(value)


def summary(tuned: TunedConfig) -> str:
    """What the config was tuned for, in a line."""
    card, config = tuned.hardware.profile or "no GPU", tuned.config
    size = f"{tuned.workload.context} tokens, batch {config.execution.batch_size}"
    return f"tuned for {tuned.model.id} at {size}, on {card} ({tuned.hardware.kind}): {summary_of(config)}"


def summary_of(config: DecodeConfig) -> str:
    """The method, and of tables what MagicPIG's users know them by."""
    p = config.parameters
    return f"lsh K={p.K} L={p.L} min_hits={p.min_hits}" if isinstance(p, LshParameters) else config.method
