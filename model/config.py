"""What a decoder is made of: the model's shape and the settings it decodes with."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Llama3RopeScaling(_Frozen):
    """Frequency scaling of Llama 3.1 and later."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


class ModelShape(_Frozen):
    """Sizes and constants of a Llama-type decoder."""

    architecture: Literal["llama"] = "llama"
    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    intermediate: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=2)
    vocabulary: int = Field(ge=1)
    rope_theta: float = 10_000.0
    rope_scaling: Llama3RopeScaling | None = None
    rms_epsilon: float = 1e-5
    tied_embeddings: bool = False
    max_positions: int = Field(default=8_192, ge=1)

    @model_validator(mode="after")
    def _groups_are_whole(self) -> ModelShape:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads: expected a multiple of kv_heads = {self.kv_heads}, got {self.heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim: expected an even number, got {self.head_dim}")
        return self

    @property
    def parameters(self) -> int:
        """Weights of the model, embeddings included."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        embeddings = self.vocabulary * self.hidden * (1 if self.tied_embeddings else 2)
        return self.layers * layer + embeddings + self.hidden

    def kv_bytes_per_token(self, element_bytes: int = 2) -> int:
        """Keys and values of one token over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * element_bytes


class Probing(_Frozen):
    """Which buckets of a table are visited: the query's own, all within a Hamming radius, or the nearest by margin.

    `amount` is the radius of a ball, and the number of buckets, the own one included, where the query directs.
    """

    kind: Literal["none", "ball", "directed"] = "none"
    amount: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _amount_goes_with_kind(self) -> Probing:
        least, most = {"none": (0, 0), "ball": (1, 3), "directed": (2, 64)}[self.kind]
        if not least <= self.amount <= most:
            wanted = f"{least} to {most}" if most else "0"
            raise ValueError(f"probing.amount: expected {wanted} where kind is {self.kind!r}, got {self.amount}")
        return self

    @property
    def ball(self) -> int:
        """The Hamming radius of what is probed whatever the query is."""
        return self.amount if self.kind == "ball" else 0

    @property
    def name(self) -> str:
        """Such as ``none``, ``ball 1`` or ``directed 8``."""
        return f"{self.kind} {self.amount}" if self.amount else self.kind

    @classmethod
    def named(cls, name: str) -> Probing:
        """The reverse of `name`."""
        kind, _, amount = name.partition(" ")
        return cls.model_validate({"kind": kind, "amount": int(amount or 0)})


class DenseParameters(_Frozen):
    """Exact attention over everything."""

    method: ClassVar[str] = "dense"


class StreamingParameters(_Frozen):
    """Sink and window only (StreamingLLM, arXiv 2309.17453, without re-indexed positions)."""

    method: ClassVar[str] = "streaming"
    sink: int = Field(default=4, ge=0)
    window: int = Field(default=64, ge=1)
    dense_layers: tuple[NonNegativeInt, ...] = (0, 16)


class LshParameters(_Frozen):
    """LSH-sampled attention; the defaults are MagicPIG's (arXiv 2410.16179, section 5)."""

    method: ClassVar[str] = "lsh"
    K: int = Field(default=10, ge=1, le=16)
    L: int = Field(default=150, ge=1, le=4096)
    min_hits: int = Field(default=2, ge=1, le=3)
    probing: Probing = Probing()
    centred: bool = True
    sink: int = Field(default=4, ge=0)
    window: int = Field(default=64, ge=1)
    dense_layers: tuple[NonNegativeInt, ...] = (0, 16)
    seal_tokens: int = Field(default=1024, ge=1, le=65_536)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _enough_tables(self) -> LshParameters:
        if self.min_hits > self.L:
            raise ValueError(f"min_hits: expected at most L = {self.L}, got {self.min_hits}")
        return self

    @model_validator(mode="after")
    def _probing_leaves_buckets_out(self) -> LshParameters:
        kind, amount = self.probing.kind, self.probing.amount
        if kind == "ball" and amount >= self.K:
            raise ValueError(f"probing.amount: expected less than K = {self.K}, got {amount}")
        if kind == "directed" and amount >= 1 << self.K:
            raise ValueError(f"probing.amount: expected less than 2^K = {1 << self.K}, got {amount}")
        return self


MethodParameters = DenseParameters | StreamingParameters | LshParameters
METHODS: dict[str, type[MethodParameters]] = {
    kind.method: kind for kind in (DenseParameters, StreamingParameters, LshParameters)
}


StoreFormat = Literal["bfloat16", "int8", "float32"]


class Execution(_Frozen):
    """How the work is done; none of it changes what is computed beyond rounding."""

    batch_size: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    isa: str = "auto"
    pinning: Literal["none", "cores"] = "none"
    wait_policy: Literal["park", "spin"] = "park"
    micro_batches: Literal[1, 2] = 1
    store_format: StoreFormat = "bfloat16"


SEPARATE, FUSED = ("retrieve", "sparse_attend"), "retrieve_attend"


class DecodeConfig(_Frozen):
    """Everything a decoder is built with besides its weights. JSON round trip through pydantic.

    Attributes:
        method: one of METHODS; may be left out where `parameters` is an object.
        parameters: the method's own.
        execution: threads, batch and formats.
        implementations: implementation by operation; an operation not named is ``"auto"``. Naming `retrieve_attend`
            asks for it in place of `retrieve` and `sparse_attend`; naming both of these on a GPU keeps stores and
            tables there.
    """

    method: str = "dense"
    parameters: MethodParameters = DenseParameters()
    execution: Execution = Execution()
    implementations: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _parameters_are_the_methods(cls, data: Any) -> Any:
        """Read `parameters` as those of `method`, which parameters given as an object imply."""
        if not isinstance(data, dict):
            return data
        parameters = data.get("parameters", {})
        method = data.get("method", getattr(parameters, "method", "dense"))
        if method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
        return {**data, "method": method, "parameters": METHODS[method].model_validate(parameters)}

    @model_validator(mode="after")
    def _one_way_to_attend(self) -> DecodeConfig:
        apart = [op for op in SEPARATE if op in self.implementations]
        if self.fused and apart:
            ways = f"either {FUSED} or {' and '.join(SEPARATE)}"
            raise ValueError(f"implementations: expected {ways}, got {FUSED} and {' and '.join(apart)}")
        return self

    @model_validator(mode="after")
    def _one_place_to_attend(self) -> DecodeConfig:
        there = [op for op in SEPARATE if self.implementations.get(op, "auto").startswith("gpu_")]
        named = " and ".join(f"{op}={self.implementations.get(op, 'auto')}" for op in SEPARATE)
        if len(there) == 1:
            raise ValueError(f"implementations: expected both of {' and '.join(SEPARATE)} on a GPU, got {named}")
        if there and getattr(self.parameters, "probing", Probing()).kind == "directed":
            raise ValueError(f"implementations: expected the CPU's for directed probing, got {named}")
        return self

    @property
    def resident(self) -> bool:
        """Whether what is sampled lies on the model's own GPU, and is retrieved and attended there."""
        return all(self.implementations.get(op, "auto").startswith("gpu_") for op in SEPARATE)

    @property
    def fused(self) -> bool:
        """Whether one operation retrieves and attends."""
        return FUSED in self.implementations


PAPER_DEFAULT = LshParameters()


def one_line(error: ValidationError) -> str:
    """The first problem of a validation error: where, what was expected, what came."""
    first = error.errors()[0]
    if first["type"] == "value_error" and "ctx" in first:  # a validator above, whose message says it all
        return str(first["ctx"]["error"])
    where = ".".join(str(part) for part in first["loc"]) or "config"
    return f"{where}: {first['msg']}, got {first['input']!r}"
