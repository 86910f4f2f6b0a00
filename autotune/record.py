"""What is kept of a trial: one flat record, whether it finished, was ruled out beforehand, or failed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from truffle.autotune.filling import OWN_LAYERS, adds_layers, read, written
from truffle.autotune.memory import Memory
from truffle.autotune.method_space import label
from truffle.model.config import FUSED, SEPARATE, DecodeConfig, DenseParameters, LshParameters

APART, ON_GPU = " + ".join(SEPARATE), "gpu"


@dataclass(frozen=True)
class TrialRecord:
    """One point. Figures are None until they are known; a record that is not complete says why."""

    number: int
    status: str  # complete, pruned, failed, or repeat: a complete one measured again
    origin: str  # default, paper, method (one's own defaults), baseline or search
    label: str
    method: str
    reason: str | None = None
    K: int | None = None
    L: int | None = None
    min_hits: int | None = None
    family: str | None = None
    probing: str | None = None
    sink: int | None = None
    window: int | None = None
    dense_layers: str | None = None
    seed: int | None = None
    batch_size: int | None = None
    threads: int | None = None
    isa: str | None = None
    pinning: str | None = None
    wait_policy: str | None = None
    micro_batches: int | None = None
    store_format: str | None = None
    attend_with: str | None = None
    parameters: str | None = None  # of a method other than lsh, as JSON
    config: str | None = None  # all of it, as JSON
    repeat_of: int | None = None
    repeats: int = 1  # measurements of throughput that its figures pool
    screen_error: float | None = None  # output error of a few layers and steps
    kl: float | None = None
    kl_low: float | None = None
    kl_high: float | None = None
    top1: float | None = None
    perplexity_ratio: float | None = None
    output_error: float | None = None
    density: float | None = None
    rows: float | None = None
    scores: str | None = None  # by task, as JSON
    tokens_per_s: float | None = None
    tokens_per_s_low: float | None = None
    tokens_per_s_high: float | None = None
    throughput_kind: str | None = None
    step_ms: float | None = None
    sampled_fraction: float | None = None
    ms_weights: float | None = None
    ms_hash: float | None = None
    ms_link: float | None = None
    ms_cpu_retrieve: float | None = None
    ms_cpu_attend: float | None = None
    ms_gpu_attend: float | None = None
    ms_launch: float | None = None
    ms_gpu_retrieve: float | None = None
    ms_gpu_sample: float | None = None
    ms_hidden: float | None = None
    gpu_memory_bytes: int | None = None
    host_memory_bytes: int | None = None
    index_bytes: int | None = None
    feasible: bool | None = None
    infeasible_because: str | None = None
    confirmed: bool = False
    gain: float | None = None  # over the default, by rounds in which both took turns
    gain_low: float | None = None
    gain_high: float | None = None
    behind: int | None = None  # a trial that is clearly faster by turns
    seconds: float | None = None

    @property
    def filled(self) -> bool:
        """Whether more layers are dense than the method's own, with which its accuracy was measured."""
        return adds_layers(read(self.dense_layers))

    @property
    def merit(self) -> float:
        """What is to be large beside a small KL: tokens a second, or, where only accuracy is studied, fewer rows read
        (dense reads all)."""
        if self.tokens_per_s is not None:
            return self.tokens_per_s
        return -1.0 if self.rows is None else -self.rows

    def updated(self, **changes: Any) -> TrialRecord:
        """A copy with some figures changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Flat, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> TrialRecord:
        """The reverse of `to_dict`; keys of other versions are left out."""
        known = {field.name for field in fields(TrialRecord)}
        return TrialRecord(**{name: value for name, value in data.items() if name in known})


def describe(config: DecodeConfig) -> dict[str, Any]:
    """The settings of a config as they stand in a record."""
    p, execution = config.parameters, config.execution
    settings: dict[str, Any] = {"config": config.model_dump_json(), "method": config.method}
    settings |= {"batch_size": execution.batch_size}
    settings |= {"threads": execution.threads, "isa": execution.isa, "pinning": execution.pinning}
    settings |= {"wait_policy": execution.wait_policy, "micro_batches": execution.micro_batches}
    if isinstance(p, LshParameters):
        settings |= {
            "label": _tables(p) + _beside(config), "store_format": execution.store_format,
            "K": p.K, "L": p.L, "min_hits": p.min_hits, "family": family(p), "probing": p.probing.name, "sink": p.sink,
            "window": p.window, "dense_layers": written(p.dense_layers), "seed": p.seed,
            "attend_with": _attends_with(config),
        }  # fmt: skip
        return settings
    own = {name: getattr(p, name) for name in ("sink", "window", "seed") if hasattr(p, name)}
    if not isinstance(p, DenseParameters):
        own["dense_layers"] = written(p.dense_layers)
    return settings | own | {"label": label(p) + _beside(config), "parameters": p.model_dump_json()}


def family(p: LshParameters) -> str:
    """What codes are made of, such as ``simhash`` or ``cross_polytope 8``."""
    return f"{p.family} {p.coordinates}" if p.coordinates else p.family


def _attends_with(config: DecodeConfig) -> str:
    if config.resident:
        return ON_GPU
    return FUSED if config.fused else APART


def _tables(p: LshParameters) -> str:
    """K and L, and what is not as in the paper."""
    hits = f", min_hits {p.min_hits}" if p.min_hits != 2 else ""
    probing = f", {p.probing.name}" if p.probing.amount else ""
    probing += f", {family(p)}" if p.family != "simhash" else ""
    return f"lsh ({p.K}, {p.L}){hits}{probing}"


def _beside(config: DecodeConfig) -> str:
    """How rows are stored, which layers are dense and where sampling is done, as far as not by default."""
    stored = ", int8" if config.execution.store_format == "int8" else ""
    layers = getattr(config.parameters, "dense_layers", OWN_LAYERS)
    dense = "" if layers == OWN_LAYERS else f", {len(layers)} dense layers"
    if config.linked:
        return f"{stored}{dense}, rows over the link"
    if config.resident:
        return f"{stored}{dense}, on the GPU"
    return f"{stored}{dense}" + (", codes on the host" if config.execution.codes == "host" else "")


def memory_fields(needed: Memory) -> dict[str, int]:
    """Memory figures as they stand in a record."""
    return {
        "gpu_memory_bytes": needed.gpu_bytes,
        "host_memory_bytes": needed.host_bytes,
        "index_bytes": needed.index_bytes,
    }
