"""In what a tuned file is not for this machine, model or version, in sentences that name both sides."""

from __future__ import annotations

from collections.abc import Iterator

import truffle
from truffle.kernels import profiles
from truffle.kernels.hardware import HardwareProfile
from truffle.model.config import ModelShape
from truffle.model.tuned_schema import TunedConfig

NO_GPU = "no GPU"
# What the kernels' work depends on, and what every stack knows of a model.
SIZES = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocabulary")
ALWAYS = ("model.shape", "hardware.profile")  # whatever a file says


def stale(tuned: TunedConfig, model: ModelShape, hardware: HardwareProfile) -> tuple[str, ...]:
    """What differs of what must be equal; nothing for a file that was made for exactly this."""
    found = [*_library(tuned), *_cpu(tuned, hardware)]
    checks = {"model.shape": _model(tuned, model), "hardware.profile": _card(tuned, hardware)}
    checks["hardware.vram_limit_bytes"] = _limit(tuned, hardware)
    names = dict.fromkeys((*ALWAYS, *tuned.match.equal))
    return tuple([message for name in names for message in checks[name]] + found)


def _model(tuned: TunedConfig, model: ModelShape) -> Iterator[str]:
    theirs, ours = tuned.model.shape.model_dump(), model.model_dump()
    differing = [name for name in SIZES if theirs[name] != ours[name]]
    if differing:
        first, *others = differing
        more = f" and {len(others)} more" if others else ""
        yield (
            f"other model: tuned for {tuned.model.id} with {first} {theirs[first]}, this one has {ours[first]}{more}; "
            "its error was never measured here"
        )


def _card(tuned: TunedConfig, hardware: HardwareProfile) -> Iterator[str]:
    here = {card: name for name in names(hardware) for card in [id_of(name)]}
    profile = tuned.hardware.profile
    if profile in here or (profile is None and not here):
        return
    theirs = f"{tuned.hardware.gpu.name} ({profile})" if tuned.hardware.gpu else profile or NO_GPU
    ours = ", ".join(name if name == card else f"{name} ({card})" for card, name in here.items()) or NO_GPU
    yield f"other card: tuned for {theirs}, here is {ours}; its throughput is not this machine's"


def _cpu(tuned: TunedConfig, hardware: HardwareProfile) -> Iterator[str]:
    theirs, ours = tuned.hardware.cpu.model, hardware.cpu.model
    if theirs and ours and theirs != ours:
        yield f"other CPU: tuned with {theirs}, here is {ours}; its threads and throughput are not this machine's"


def _limit(tuned: TunedConfig, hardware: HardwareProfile) -> Iterator[str]:
    limit = tuned.hardware.vram_limit_bytes
    if limit is not None:
        sizes = [f"{gpu.memory_bytes / 2**30:.1f} GiB" for gpu in hardware.gpus if gpu.memory_bytes]
        yield f"other memory: tuned for a card held to {limit / 2**30:.1f} GiB, here are {', '.join(sizes) or 'none'}"


def _library(tuned: TunedConfig) -> Iterator[str]:
    theirs, ours = tuned.generator.version, truffle.__version__
    if theirs.partition(".")[0] != ours.partition(".")[0]:
        yield f"other version: written by {tuned.generator.name} {theirs}, this is truffle {ours}"


def names(hardware: HardwareProfile) -> list[str]:
    """What NVML calls the cards."""
    return [gpu.name or "an unnamed card" for gpu in hardware.gpus]


def id_of(name: str) -> str:
    """The profile of a card, or its own name where no profile matches."""
    profile = profiles.matching(name)
    return profile.id if profile else name
