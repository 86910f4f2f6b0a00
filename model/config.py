"""What a decoder is made of: the model's shape and the settings it decodes with."""

from __future__ import annotations

from typing import Any, TypeAlias, get_args

from pydantic import Field, model_validator

from truffle.model.execution import Execution, Name
from truffle.model.model_shape import Llama3RopeScaling, ModelShape
from truffle.model.parameters import PAPER_DEFAULT, DenseParameters, LshParameters, Probing, StreamingParameters
from truffle.model.scan_parameters import ScanParameters
from truffle.model.schema import Frozen, one_line
from truffle.model.selecting_parameters import (
    OracleSamplingParameters,
    OracleTopKParameters,
    OracleTopPParameters,
    PriorityParameters,
    QuestParameters,
    SelectingParameters,
    UniformParameters,
    VAttentionParameters,
)

__all__ = [
    "FUSED",
    "METHODS",
    "PAPER_DEFAULT",
    "SEPARATE",
    "DecodeConfig",
    "DenseParameters",
    "Execution",
    "Llama3RopeScaling",
    "LshParameters",
    "MethodParameters",
    "ModelShape",
    "OracleSamplingParameters",
    "OracleTopKParameters",
    "OracleTopPParameters",
    "PriorityParameters",
    "Probing",
    "QuestParameters",
    "ScanParameters",
    "SelectingParameters",
    "StreamingParameters",
    "UniformParameters",
    "VAttentionParameters",
    "one_line",
]

MethodParameters: TypeAlias = (
    DenseParameters
    | StreamingParameters
    | LshParameters
    | ScanParameters
    | OracleTopKParameters
    | OracleTopPParameters
    | QuestParameters
    | OracleSamplingParameters
    | UniformParameters
    | PriorityParameters
    | VAttentionParameters
)
METHODS: dict[str, type[MethodParameters]] = {kind.method: kind for kind in get_args(MethodParameters)}

SAMPLING = ("build_tables", "direct_probes")
SEPARATE, FUSED = ("retrieve", "sparse_attend"), "retrieve_attend"
SCANNING = ("quantize_keys", "scan_sample")


class DecodeConfig(Frozen):
    """Everything a decoder is built with besides its weights. JSON round trip through pydantic.

    Attributes:
        method: one of METHODS; may be left out where `parameters` is an object.
        parameters: the method's own.
        execution: threads, batch and formats.
        implementations: implementation by operation; an operation not named is ``"auto"``. Naming `retrieve_attend`
            asks for it in place of `retrieve` and `sparse_attend`; naming both of these on a GPU (for `scan`,
            `scan_sample` and `sparse_attend`) keeps stores and tables there. A `scan_sample` alone that is named is
            run where it belongs, and the codes are there.
    """

    method: str = "dense"
    parameters: MethodParameters = DenseParameters()
    execution: Execution = Execution()
    implementations: dict[Name, Name] = Field(default_factory=dict, max_length=64)

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
    def _execution_is_the_methods(self) -> DecodeConfig:
        who = getattr(self.parameters, "family", self.method) if self.selects else self.method
        unused = [op for op in self._uncalled if op in self.implementations]
        if unused:
            raise ValueError(f"implementations: expected none of {unused[0]}, which {who} does not call")
        if not self.selects:
            return self
        found, default = self.execution.store_format, Execution().store_format
        if found != default:
            raise ValueError(f"store_format: expected {default}, as {who} has no store of its own, got {found}")
        return self

    @model_validator(mode="after")
    def _one_place_to_attend(self) -> DecodeConfig:
        ops = self._apart
        there = [op for op in ops if self.implementations.get(op, "auto").startswith("gpu_")]
        named = " and ".join(f"{op}={self.implementations.get(op, 'auto')}" for op in ops)
        if len(there) == 1 and there != ["scan_sample"] and not self.linked:
            raise ValueError(f"implementations: expected both of {' and '.join(ops)} on a GPU, got {named}")
        if there and getattr(self.parameters, "probing", Probing()).kind == "directed":
            raise ValueError(f"implementations: expected the CPU's for directed probing, got {named}")
        return self

    @model_validator(mode="after")
    def _one_place_for_codes(self) -> DecodeConfig:
        found, named = self.execution.codes, self.implementations.get("scan_sample", "auto")
        if found == "auto":
            return self
        if not self.scans:
            raise ValueError(f"codes: expected auto, as {self.method} keeps none, got {found}")
        if named != "auto" and named.startswith("gpu_") != (found == "device"):
            place = "device" if found == "host" else "host"
            raise ValueError(f"codes: expected auto or {place} with scan_sample={named}, got {found}")
        return self

    @model_validator(mode="after")
    def _one_gatherer(self) -> DecodeConfig:
        if not self.linked:
            return self
        if not self.scans:
            raise ValueError(f"gather: expected auto, as {self.method} samples no rows by a scan, got link")
        if self.selects:
            raise ValueError("gather: expected auto with epsilon, which compares all keys, got link")
        if self.execution.codes == "host":
            raise ValueError("gather: expected auto with codes of the host, got link")
        for op in self._apart:
            if self.implementations.get(op, "auto").startswith("cpu_"):
                raise ValueError(f"gather: expected auto with {op}={self.implementations[op]}, got link")
        return self

    @property
    def resident(self) -> bool:
        """Whether what is sampled is found and attended on the model's own device, where all but linked rows are."""
        return self.linked or all(self.implementations.get(op, "auto").startswith("gpu_") for op in self._apart)

    @property
    def linked(self) -> bool:
        """Whether the device reads sampled rows over the link."""
        return self.execution.gather == "link"

    @property
    def scans(self) -> bool:
        """Whether keys are found by a scan of all of them in a few bits."""
        return isinstance(self.parameters, ScanParameters)

    def scans_beside(self, device: str) -> bool:
        """Whether a model on `device` scans codes there, for rows that the host has."""
        if not self.scans or self.resident:
            return False
        wanted, named = self.execution.codes, self.implementations.get("scan_sample", "auto")
        if wanted == "auto":
            return named.startswith("gpu_") or (named == "auto" and device != "cpu")
        return wanted == "device"

    @property
    def _apart(self) -> tuple[str, str]:
        """What finds keys, and what attends to them."""
        return ("scan_sample", "sparse_attend") if self.scans else SEPARATE

    @property
    def _uncalled(self) -> tuple[str, ...]:
        """Operations on stores and tables that the method does not call."""
        if self.scans:
            return (*SAMPLING, "retrieve", FUSED)
        return (*SAMPLING, *SEPARATE, FUSED, *SCANNING) if self.selects else SCANNING

    @property
    def capturable(self) -> bool:
        """Whether a step launches the same work every time; what a reference method does depends on how many keys there
        are."""
        return not self.selects

    @property
    def selects(self) -> bool:
        """Whether all keys are kept and chosen among by comparing, without stores and tables."""
        slow = isinstance(self.parameters, LshParameters | ScanParameters) and not self.parameters.has_fast_layer
        return slow or isinstance(self.parameters, SelectingParameters)

    @property
    def fused(self) -> bool:
        """Whether one operation retrieves and attends."""
        return FUSED in self.implementations
