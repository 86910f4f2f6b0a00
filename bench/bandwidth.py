"""How fast this host moves memory, and its kernels: the calibration file that the tuner's `--host FILE` takes.

    calibration = bandwidth.calibrate()
    calibration.save("host.json")
    bandwidth.HostCalibration.load("host.json").rates[-1].gather_256_bytes_per_s.p50

Sampled attention reads scattered rows, so gathers of 256 and 512 bytes (a key, or a key and its value, of 128
bf16 or float32 numbers) stand beside the streams of McCalpin's STREAM, which overstate what it gets.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError, field_validator

from truffle.bench import device_bandwidth, kernel_rates
from truffle.bench.device_bandwidth import DeviceRates
from truffle.bench.environment import environment
from truffle.bench.kernel_rates import KernelTime
from truffle.bench.records import write_atomically
from truffle.bench.spread import Spread, durations_s
from truffle.kernels import hardware
from truffle.kernels.checks import ArgumentError, expect
from truffle.kernels.hardware import Frozen

GATHERED_BYTES = 64 << 20
MATMUL_SIZE = 512


class HostRates(Frozen):
    """What `threads` threads attain together; bytes as the program counts them, without write-allocation."""

    threads: int = Field(ge=1)
    read_bytes_per_s: Spread
    copy_bytes_per_s: Spread
    triad_bytes_per_s: Spread
    gather_256_bytes_per_s: Spread
    gather_512_bytes_per_s: Spread
    matmul_flops_per_s: Spread

    @field_validator("*")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if isinstance(value, Spread) and not all(0 < rate < math.inf for rate in (value.p20, value.p50, value.p80)):
            raise ValueError("expected rates above 0")
        return value


class HostCalibration(Frozen):
    """Rates of one host by thread count, and of its CUDA device if there is one.

    Attributes:
        created: ISO 8601, UTC.
        cpu, memory_limit_bytes: as `hardware.detect` saw them.
        buffer_bytes: memory that the rates were measured over.
        rates: by ascending thread count.
        kernels: times of kernels by operation, threads and instruction set, where those were measured.
        measured_on: system and library versions.
    """

    schema_version: Literal[1] = 1
    created: str
    cpu: hardware.Cpu
    memory_limit_bytes: int | None
    buffer_bytes: int
    rates: tuple[HostRates, ...] = Field(min_length=1)
    device: DeviceRates | None
    kernels: tuple[KernelTime, ...] = ()
    measured_on: dict[str, str]

    def save(self, path: str | Path) -> None:
        """Write as JSON; the file is replaced whole or not at all."""
        write_atomically(Path(path), self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> HostCalibration:
        """Read what `save` wrote.

        Raises:
            ArgumentError: it is not a calibration of this schema version.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "file"
            raise ArgumentError(f"{path}: {where}: {first['msg']}, got {first['input']!r:.80}") from None


def calibrate(
    seconds: float = 12.0,
    with_kernels: bool = False,
    say: Callable[[str], object] = lambda text: None,
    threads_list: Sequence[int] | None = None,
) -> HostCalibration:
    """Measure this host's memory for about `seconds`, the CUDA device for a quarter as long, and kernels as long again.

    Making the kernels' keys and tables comes on top: half a minute on two cores, a whole one where they are shared.

    Args:
        say: told what is measured next.
        threads_list: thread counts; powers of two up to the usable CPUs, and all of them, where None.

    Raises:
        ArgumentError: more threads than this process may use, or none.
    """
    here = hardware.detect()
    counts = sorted(set(threads_list or default_threads(here.cpu)))
    buffer_bytes = buffer_size(here.cpu.last_level_cache_bytes, here.memory_limit_bytes)
    rates = []
    for threads in counts:
        say(f"memory, with {threads} of {counts[-1]} threads")
        rates.append(host_rates(threads, buffer_bytes, seconds / len(counts)))
    if with_kernels:
        say("kernels: keys and tables are made, and timed as they come")
    kernels = kernel_rates.measure(counts, seconds) if with_kernels else ()
    say("the card and its link, if there is one")
    around = environment()
    return HostCalibration(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu=here.cpu,
        memory_limit_bytes=here.memory_limit_bytes,
        buffer_bytes=buffer_bytes,
        rates=tuple(rates),
        device=device_bandwidth.measure(seconds / 4),
        kernels=kernels,
        measured_on={"os": around["os"], "python": around["python"], **around["packages"]},
    )


def default_threads(cpu: hardware.Cpu) -> list[int]:
    """Powers of two below the usable CPUs, the usable cores, and the usable CPUs."""
    powers = {1 << power for power in range(cpu.usable_cpus.bit_length()) if 1 << power < cpu.usable_cpus}
    return sorted(powers | {cpu.usable_cores, cpu.usable_cpus})


def buffer_size(cache_bytes: int | None, memory_limit_bytes: int | None) -> int:
    """Bytes for three arrays of four times the outermost caches: 96 MiB to 1 GiB, and an eighth of memory."""
    wanted = min(max(12 * (cache_bytes or 0), 96 << 20), 1 << 30, (memory_limit_bytes or 1 << 33) // 8)
    return wanted // 4096 * 4096


def host_rates(threads: int, buffer_bytes: int, seconds: float) -> HostRates:
    """Rates with `threads` threads over `buffer_bytes` (a multiple of 512), in about `seconds`.

    Raises:
        ArgumentError: more threads than this process may use, or none.
    """
    import numba
    import torch

    from truffle.kernels.numba_support import launching

    most = numba.config.NUMBA_NUM_THREADS  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]
    expect(1 <= threads <= most, "threads", f"1 to {most}, the CPUs this process may use", threads)
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with launching(threads):
            work = _work(threads, buffer_bytes)
            spreads = {
                name: Spread.rate(amount, durations_s(run, seconds / len(work))) for name, (amount, run) in work.items()
            }
    finally:
        torch.set_num_threads(torch_threads)
    return HostRates(threads=threads, **spreads)


def _work(threads: int, buffer_bytes: int) -> dict[str, tuple[float, Callable[[], Any]]]:
    """By field of HostRates: the bytes or operations of a call, and the call."""
    import torch

    from truffle.bench import stream_numba

    words = _buffer(buffer_bytes)
    a, b, c = words[: words.size // 3 * 3].view(np.float64).reshape(3, -1)
    sums = np.empty(8 * threads, np.uint64)
    left, right = torch.rand(2, MATMUL_SIZE, MATMUL_SIZE)
    product = torch.empty_like(left)
    work: dict[str, tuple[float, Callable[[], Any]]] = {
        "read_bytes_per_s": (words.nbytes, lambda: stream_numba.read(words, sums)),
        "copy_bytes_per_s": (2 * a.nbytes, lambda: stream_numba.copy(a, b)),
        "triad_bytes_per_s": (3 * a.nbytes, lambda: stream_numba.triad(a, b, 3.0, c)),
        "matmul_flops_per_s": (2 * MATMUL_SIZE**3, lambda: torch.mm(left, right, out=product)),
    }
    for row_bytes in (256, 512):
        gathered = min(GATHERED_BYTES, buffer_bytes) // row_bytes
        run = _gatherer(words, row_bytes // 8, gathered, sums)
        work[f"gather_{row_bytes}_bytes_per_s"] = (gathered * row_bytes, run)
    return work


def _gatherer(words: np.ndarray, width: int, gathered: int, sums: np.ndarray) -> Callable[[], None]:
    """Gathers the next `gathered` rows of one random order of all, so that none is still in a cache."""
    from truffle.bench import stream_numba

    order = np.random.default_rng(0).permutation(words.size // width)
    parts = itertools.cycle(order[: order.size // gathered * gathered].reshape(-1, gathered))
    return lambda: stream_numba.gather(words, width, next(parts), sums)


def _buffer(size_bytes: int) -> np.ndarray:
    """Memory as torch hands it out, the way the key/value store gets it, touched first by all threads."""
    import torch

    return torch.empty(size_bytes, dtype=torch.uint8).fill_(1).numpy().view(np.uint64)
