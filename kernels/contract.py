"""What every implementation of an operation shares: arguments, cases, comparison and byte counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from truffle.kernels.checks import TensorSpec, match_tensors

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One named set of sizes that an implementation is checked or timed at."""

    name: str
    sizes: Mapping[str, Any]
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Needs:
    """What an implementation needs before it can run at all.

    Attributes:
        packages: import names.
        device: where its tensors live: ``"cpu"``, ``"cuda"`` or ``"any"``.
        isas: instruction sets that its `isa` argument may name; ``"auto"`` is always accepted.
        pinning: what its `pinning` argument may name beside ``"none"``.
        extra: the extra of this distribution that installs `packages`.
    """

    packages: tuple[str, ...] = ()
    device: str = "cpu"
    isas: tuple[str, ...] = ()
    pinning: tuple[str, ...] = ()
    extra: str = ""


@dataclass(frozen=True, slots=True)
class OpContract:
    """An operation as all of its implementations see it.

    Attributes:
        name: folder name under kernels/.
        formula: what it computes, with the equation it comes from.
        tensors: specs by argument name; other arguments are checked by `check`.
        arguments: builds the keyword arguments of a case; outputs hold NaN or a sentinel.
        check: raises ArgumentError for what `tensors` cannot say. It gets the arguments and the sizes.
        compare: takes the arguments after this implementation and after the reference ran on them, and
            returns None or what is wrong.
        bytes_moved: bytes the operation reads and writes without any reuse between query heads, for arguments
            it has run on; what the heads of a group share can make an implementation faster than that.
        cases: awkward sizes on purpose; every implementation passes all of them.
    """

    name: str
    formula: str
    tensors: Mapping[str, TensorSpec]
    arguments: Callable[[Case], Arguments]
    check: Callable[[Arguments, Mapping[str, int]], None]
    compare: Callable[[Arguments, Arguments], str | None]
    bytes_moved: Callable[[Arguments], int]
    cases: tuple[Case, ...] = field(default=())

    def validate(self, arguments: Arguments) -> None:
        """Raise ArgumentError unless `arguments` keep the contract."""
        self.check(arguments, match_tensors(self.tensors, arguments))


def differs(got: Arguments, want: Arguments, names: tuple[str, ...], tolerance: float) -> str | None:
    """What is wrong with the outputs `names`: not finite where they should be, or a relative RMS above `tolerance`."""
    import torch

    for name in names:
        ours, theirs = got[name].float(), want[name].float()
        finite = torch.isfinite(theirs)
        if not torch.equal(torch.isfinite(ours), finite):
            return f"{name} is not finite where the reference is, or the reverse"
        error = (ours - theirs)[finite].norm() / theirs[finite].norm().clamp_min(1e-30)
        if error > tolerance:
            return f"{name} differs by {error:.2e} (relative RMS), tolerance {tolerance:.0e}"
    return None
