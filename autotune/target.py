"""What is tuned for: a card (present, from its profile, or none) and a host (this one, or a calibration file)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from truffle.autotune import known_error
from truffle.autotune.measured_profile import with_measured
from truffle.bench import bandwidth
from truffle.bench import host_file as host_files
from truffle.bench.bandwidth import HostCalibration, HostRates
from truffle.bench.kernel_rates import KernelTime
from truffle.bench.vram import parse_size
from truffle.kernels import hardware, isa, profiles
from truffle.kernels.checks import expect
from truffle.kernels.profiles import Figure, GpuProfile

# What the system, the process and its buffers take of a host's memory, and a driver and workspace of a card's.
HOST_SHARE, GPU_SHARE, GPU_WORKSPACE_BYTES = 0.9, 0.95, 1 << 30
CARD_MARK, HOST_MARK, UNKEPT = "the card's profile", "the host's calibration", "made for each run"


@dataclass(frozen=True)
class Host:
    """The CPU side: its limits, its measured rates by thread count, and where they come from.

    Attributes:
        isa: the widest instruction set of the native kernels that it has.
        here: whether it is this machine.
        kernels: times of its kernels, where it was calibrated with them.
    """

    name: str
    logical_cpus: int
    memory_bytes: int
    rates: tuple[HostRates, ...]
    isa: str
    here: bool
    source: str
    kernels: tuple[KernelTime, ...] = ()

    def rate(self, threads: int) -> HostRates:
        """Rates at the largest measured thread count up to `threads`."""
        fitting = [rates for rates in self.rates if rates.threads <= threads]
        return fitting[-1] if fitting else self.rates[0]

    @property
    def usable_memory_bytes(self) -> int:
        """Memory that stores and tables may take."""
        return int(self.memory_bytes * HOST_SHARE)


@dataclass(frozen=True)
class Target:
    """Card and host together; `gpu` is None for a machine without one.

    Attributes:
        vram_limit_bytes: what the card is held to, no more than it has; None where all of it may be used.
        recorded: whether a recording stands in for it.
        marks: of the figures that estimates are made from, by what holds them, such as ``the card's profile``. A
            calibration that no file keeps is another each time, and has none.
    """

    gpu: GpuProfile | None
    gpu_present: bool
    host: Host
    notes: tuple[str, ...]
    vram_limit_bytes: int | None = None
    recorded: bool = False
    marks: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_here(self) -> bool:
        """Whether the target is this machine, so that whole layers can be run on it."""
        return self.host.here and (self.gpu is None or self.gpu_present)

    @property
    def kind(self) -> Literal["measured", "estimated", "replayed"]:
        """How what is said of this machine came about."""
        return "replayed" if self.recorded else "measured" if self.is_here else "estimated"

    @property
    def gpu_memory_bytes(self) -> int:
        """Memory of the card, or of one as small as the limit; none without a card."""
        return self.vram_limit_bytes or (int(self.gpu.memory_bytes.value) if self.gpu else 0)

    @property
    def usable_gpu_bytes(self) -> int:
        """Memory of the card that weights and caches may take."""
        return max(0, int(self.gpu_memory_bytes * GPU_SHARE) - GPU_WORKSPACE_BYTES)

    @property
    def card(self) -> str:
        """Such as ``rtx-4090``, ``h100-sxm held to 24.0 GiB`` or ``no GPU``."""
        name = self.gpu.id if self.gpu else "no GPU"
        return name if self.vram_limit_bytes is None else f"{name} held to {self.vram_limit_bytes / 2**30:.1f} GiB"


def find_target(gpu: str, host_file: Path | None, vram_limit: str | None, seconds: float) -> Target:
    """Resolve `--gpu` (a card, ``auto`` or ``none``), `--host` and `--vram-limit`.

    Args:
        seconds: how long this host is calibrated for.

    Raises:
        ProfileError: unknown card.
        ArgumentError: the host file is not a calibration, or there is no card with one of another machine or with a
            limit: what runs on the CPU alone is measured on the machine itself.
    """
    here = hardware.detect()
    present = [card for card in here.gpus if card.name]
    profile, is_here, notes = _find_gpu(gpu, present)
    limit = _find_limit(vram_limit, profile)
    kept = _kept_calibration(host_file, here.cpu)
    calibration, of_here, source = kept or (bandwidth.calibrate(seconds=seconds), True, "measured here")
    unused = None if host_file else host_files.why_unused(here.cpu)
    notes += [unused] if unused else []
    if not of_here:
        expect(profile is not None, "host", "a card to tune for beside it (--gpu NAME)", "no GPU")
        notes.append(f"the host is {source}: what it takes is estimated")
    marks = {CARD_MARK: _mark_of(profile), HOST_MARK: _mark_of(calibration) if kept else UNKEPT}
    profile = profile and with_measured(profile, calibration)
    if profile and not is_here:
        known = known_error.find(profile, "lsh")
        notes += [known.sentence] if known else []
    return Target(profile, is_here, host_of(calibration, of_here, source), tuple(notes), limit, marks=marks)


def _kept_calibration(path: Path | None, here: hardware.Cpu) -> tuple[HostCalibration, bool, str] | None:
    """A calibration that a file holds, whether it is of this machine, and where it comes from."""
    if path is None:
        kept = host_files.of_this_machine()
        return kept and (kept, True, "measured here")
    calibration = HostCalibration.load(path)
    if host_files.difference(calibration, here) is None:
        return calibration, True, f"{path}, of this machine"
    there = host_files.described(calibration.cpu)
    return calibration, False, f"{there}, as {path} of {calibration.created[:10]} has it"


def _mark_of(found: GpuProfile | HostCalibration | None) -> str:
    """Another one for other figures, whatever is said of where they come from."""
    figures: dict[str, Any] | None = None
    if isinstance(found, GpuProfile):
        entries = ((name, getattr(found, name)) for name in GpuProfile.model_fields)
        figures = {name: entry.value for name, entry in entries if isinstance(entry, Figure)}
    elif found:
        figures = found.model_dump(include={"cpu", "rates", "kernels", "device"})
    return hashlib.sha256(json.dumps(figures, sort_keys=True).encode()).hexdigest()[:12]


def _find_gpu(name: str, present: list[hardware.Gpu]) -> tuple[GpuProfile | None, bool, list[str]]:
    names = [card.name or "" for card in present]
    if name == "none":
        return None, False, []
    if name == "auto":
        if not names:
            return None, False, ["--gpu auto found no GPU and took none: everything runs on the CPU"]
        profile = profiles.matching(names[0])
        if profile is None:
            raise profiles.ProfileError(
                f"gpu: no profile matches the card that is here, {names[0]!r}; known: {', '.join(profiles.known())}"
            )
        return profile, True, [f"--gpu auto took {profile.id}, the card that is here"]
    profile = profiles.load(name)
    is_here = any(profile.is_card(found) for found in names)
    notes = []
    if names and not is_here:
        notes.append(f"the card here is {names[0]}, not {profile.name}: GPU figures are estimated from the profile")
    return profile, is_here, notes


def _find_limit(size: str | None, profile: GpuProfile | None) -> int | None:
    if size is None:
        return None
    limit = parse_size(size)
    expect(profile is not None, "vram_limit", "a card to hold to it (--gpu NAME)", "no GPU")
    assert profile is not None
    return min(limit, int(profile.memory_bytes.value))


def host_of(calibration: HostCalibration, here: bool = False, source: str = "a calibration") -> Host:
    """The host that a calibration describes."""
    cpu, memory = calibration.cpu, calibration.memory_limit_bytes or 0
    level = isa.resolve("auto") if here else _widest(set(cpu.isa))
    name, kernels = cpu.model or "unknown CPU", calibration.kernels
    return Host(name, cpu.usable_cpus, memory, calibration.rates, level, here, source, kernels)


def _widest(flags: set[str]) -> str:
    """The widest level of the native kernels whose flags a calibrated CPU reports."""
    if flags >= {"avx512f", "avx512bw", "avx512dq", "avx512vl"}:
        return "avx512"
    return "avx2" if flags >= {"avx2", "fma"} else "scalar"
