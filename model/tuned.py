"""Tuned files: what they hold, how they are read and written, and which is for a machine (`resolve`). No torch."""

from truffle.model.resolve import NoTunedConfig, Resolution, resolve
from truffle.model.tuned_file import TunedFileError, load, save
from truffle.model.tuned_schema import (
    SCHEMA_VERSION,
    Cpu,
    Evidence,
    Figure,
    FrontPoint,
    Generator,
    Gpu,
    Hardware,
    Kind,
    Link,
    Match,
    Model,
    Study,
    TunedConfig,
    Workload,
)

__all__ = [
    "SCHEMA_VERSION",
    "Cpu",
    "Evidence",
    "Figure",
    "FrontPoint",
    "Generator",
    "Gpu",
    "Hardware",
    "Kind",
    "Link",
    "Match",
    "Model",
    "NoTunedConfig",
    "Resolution",
    "Study",
    "TunedConfig",
    "TunedFileError",
    "Workload",
    "load",
    "resolve",
    "save",
]
