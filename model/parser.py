"""A command-line parser that refuses in one line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn


class OneLineParser(argparse.ArgumentParser):
    """Exits with status 2 and ``error: ...`` naming the known options, without a page of usage before it."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As argparse has it, but a subcommand refuses unknown options itself, since it knows its own."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        known = ", ".join(dict.fromkeys(re.findall(r"--[\w-]+", self.format_usage())))
        self.exit(2, f"error: {message}" + (f"; known: {known}" if known else "") + "\n")
