"""What the comparisons of methods under python -m truffle.bench accuracy share: who is compared, and on what model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from truffle.bench.method_list import listed
from truffle.bench.task_methods import Contender, contenders
from truffle.kernels.checks import expect
from truffle.model.arguments import require_device

if TYPE_CHECKING:
    from truffle.model.weights import LoadedModel

DENSITIES = "0.05"


def add_comparison_arguments(parser: argparse._ActionsContainer) -> None:
    """Options of who is compared; they replace --method."""
    parser.add_argument(
        "--methods", metavar="METHOD[,METHOD]",
        help="each compared with dense; each may have options of its own: 'quest, lsh --K 13 --ball 1'",
    )  # fmt: skip
    parser.add_argument("--densities", metavar="SHARE[,SHARE]", help=f"of the keys, for each method ({DENSITIES})")


def compared(arguments: argparse.Namespace) -> list[Contender]:
    """Dense, and the methods that parsed arguments name, at every density.

    Raises:
        ValueError: a count below 1, no methods, or what `contenders` refuses.
    """
    a = arguments
    for name in ("samples", "context", "threads"):
        expect(getattr(a, name) >= 1, name, "at least 1", getattr(a, name))
    expect(a.methods is not None, "methods", "those to compare, such as --methods lsh,quest", "none")
    return contenders(listed(a.methods), _densities(a.densities), a)


def loaded(arguments: argparse.Namespace) -> LoadedModel:
    """The model, on the device and in the type that it is to run in."""
    import torch

    from truffle.model.weights import load

    require_device(arguments.device)
    return load(arguments.model, arguments.device, getattr(torch, arguments.dtype))


def journal_beside(path: Path) -> Path:
    """Where samples are kept while the records of a file are measured."""
    return path.with_name(path.name + ".journal")


def _densities(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"densities: expected numbers such as 0.02,0.05, got {text!r}") from None
