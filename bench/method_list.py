"""Methods as a list on the command line, each with options of its own: ``"quest, lsh --K 13 --ball 1"``."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import dataclass
from typing import NoReturn

from truffle.kernels.checks import expect
from truffle.model.arguments import add_probing_arguments
from truffle.model.config import METHODS
from truffle.model.method_arguments import add_parameter_arguments


@dataclass(frozen=True)
class Asked:
    """A method and the options that were written behind it, by name."""

    method: str
    options: dict[str, object]


def listed(text: str) -> list[Asked]:
    """What a list asks for; a comma that a letter follows divides it, as layers are numbers.

    Raises:
        ValueError: a method that does not exist, or an option that is none of a method's.
    """
    return list({part: _asked(part) for part in re.split(r",\s*(?=[a-zA-Z])", text.strip())}.values())


def _asked(text: str) -> Asked:
    method, *words = shlex.split(text) or [""]
    expect(method in METHODS, "methods", f"some of {', '.join(METHODS)}", repr(method))
    return Asked(method, vars(_options().parse_args(words)))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"methods: {message}")


def _options() -> argparse.ArgumentParser:
    """Of what a method is, without how it runs; absent from what is parsed unless given."""
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    add_parameter_arguments(parser)
    add_probing_arguments(parser)
    parser.add_argument("--no-centring", action="store_true")
    return parser
