"""Command-line flags for decode settings, derived from the settings' own schemas."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from truffle.kernels import registry
from truffle.kernels.checks import expect
from truffle.model.config import (
    METHODS,
    DecodeConfig,
    Execution,
    LshParameters,
    one_line,
)
from truffle.model.execution import CodesPlace, Gathering, StoreFormat
from truffle.model.method_arguments import add_parameter_arguments, given_parameters

_HELP = {
    "ball": "also probe the buckets within this Hamming radius",
    "directed": "probe this many buckets a table, the nearest by the query's margins",
    "threads": "threads of the CPU kernels",
    "isa": "instruction set of the native kernels",
    "pinning": "none: the kernels' threads float; cores: each stays on one",
    "wait_policy": "park: threads sleep between calls; spin: for a millisecond they look for the next one first",
    "micro_batches": "2: a GPU works for one half of the batch while the CPU works for the other",
    "store_format": "how the sampled keys and values are stored",
    "codes": "scan: who keeps and scans the codes of the keys; auto: the model's device",
    "gather": "scan: link: the GPU reads sampled rows from the host's memory; auto: whoever has them does",
}


def add_decode_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the method's parameters and execution settings; defaults are those of the schemas."""
    parser.add_argument("--method", choices=tuple(METHODS), default="lsh", help="attention method")
    group = parser.add_argument_group("method parameters (those of other methods are refused)")
    add_parameter_arguments(group)
    add_probing_arguments(group)
    group.add_argument("--no-centring", action="store_true", help="hash keys as they are, for comparison")
    add_execution_arguments(parser)


def add_probing_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the ways of probing, of which one may be given."""
    probing = parser.add_mutually_exclusive_group()
    probing.add_argument("--ball", type=int, help=f"{_HELP['ball']} (0)")
    probing.add_argument("--directed", type=int, metavar="BUCKETS", help=_HELP["directed"])


def lsh_parameters(arguments: argparse.Namespace, **given: Any) -> LshParameters:
    """Parameters with the probing that parsed arguments ask for.

    Raises:
        ValueError: a value out of range, by name.
    """
    try:
        return LshParameters.model_validate(given | _probing(arguments))
    except ValidationError as error:
        raise ValueError(_named_line(error, _probing(arguments))) from error


def add_execution_arguments(parser: argparse.ArgumentParser) -> None:
    """Add threads, ISA, pinning, store format and implementations."""
    execution = Execution()
    group = parser.add_argument_group("execution")
    group.add_argument("--threads", type=int, default=execution.threads, help=_HELP["threads"] + " (%(default)s)")
    group.add_argument("--isa", default=execution.isa, help=_HELP["isa"] + " (%(default)s)")
    group.add_argument(
        "--pinning", choices=("none", "cores"), default=execution.pinning, help=_HELP["pinning"] + " (%(default)s)"
    )
    group.add_argument(
        "--wait-policy", choices=("park", "spin"), default=execution.wait_policy,
        help=_HELP["wait_policy"] + " (%(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--micro-batches", type=int, choices=(1, 2), default=execution.micro_batches,
        help=_HELP["micro_batches"] + " (%(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--store-format",
        choices=get_args(StoreFormat),
        default=execution.store_format,
        help=_HELP["store_format"] + " (%(default)s)",
    )
    group.add_argument(
        "--codes", choices=get_args(CodesPlace), default=execution.codes, help=_HELP["codes"] + " (%(default)s)"
    )
    group.add_argument(
        "--gather", choices=get_args(Gathering), default=execution.gather, help=_HELP["gather"] + " (%(default)s)"
    )
    group.add_argument(
        "--impl",
        action="append",
        default=[],
        metavar="OP=NAME",
        help="implementation of one operation; repeatable; retrieve_attend=NAME asks for it in place of its two parts",
    )


def decode_config(arguments: argparse.Namespace) -> DecodeConfig:
    """The DecodeConfig that parsed arguments ask for.

    Raises:
        ValueError: a value out of range, an ISA that cannot run here, or a parameter that the method does not
            have, by name.
    """
    parameters = given_parameters(arguments) | _probing(arguments)
    if arguments.no_centring:
        parameters["centred"] = False
    implementations = _implementations(arguments.impl)
    _require_isa(arguments.isa)
    execution = {
        name: getattr(arguments, name)
        for name in ("threads", "isa", "pinning", "wait_policy", "micro_batches", "store_format", "codes", "gather")
    }
    data = {
        "method": arguments.method,
        "parameters": parameters,
        "execution": execution,
        "implementations": implementations,
    }
    try:
        return DecodeConfig.model_validate(data)
    except ValidationError as error:
        raise ValueError(_named_line(error, parameters)) from error


def _probing(arguments: argparse.Namespace) -> dict[str, Any]:
    given = ((kind, getattr(arguments, kind)) for kind in ("ball", "directed"))
    return next(({"probing": {"kind": kind, "amount": amount}} for kind, amount in given if amount), {})


def _named_line(error: ValidationError, parameters: dict[str, Any]) -> str:
    """The error's first problem, by the option's name."""
    kind = parameters.get("probing", {}).get("kind", "probing")
    return re.sub(r"^probing(\.amount)?:", f"{kind}:", one_line(error))


def require_device(device: str) -> None:
    """Raise ValueError for ``"cuda"`` where torch finds no such device."""
    import torch

    found = device == "cpu" or torch.cuda.is_available()
    expect(found, "device", "cpu (no CUDA device is here)", device)


def read_prompt(path: Path) -> str:
    """The text of a prompt file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text, got {error.reason} at byte {error.start}") from error


def _require_isa(name: str) -> None:
    if name != "auto":
        from truffle.kernels import isa  # needs the native extension, which auto can do without

        isa.resolve(name)


def _implementations(given: list[str]) -> dict[str, str]:
    """Implementation by operation from ``OP=NAME`` options."""
    found = {op: name for op, _, name in (part.partition("=") for part in given)}
    for op, name in found.items():
        names = registry.names(op)
        expect(name in names, "impl", f"{op}= one of {', '.join(names)}", repr(name))
    return found
