"""python -m truffle.reports: reports and figures from records alone."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from .error_figure import write_errors
from .record import RecordError
from .render import render


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 with one line on stderr when there are no records that can be reported."""
    parser = argparse.ArgumentParser(prog="python -m truffle.reports", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_render(commands.add_parser("render", help="write a study's report.html, report.md, trials.csv and figures"))
    _add_errors(commands.add_parser("errors", help="draw KL against rows read, from bench accuracy --texts --json"))
    given = parser.parse_args(arguments)
    write: Callable[[argparse.Namespace], list[Path]] = given.write
    try:
        written = write(given)
    except (RecordError, OSError) as error:
        print(f"truffle.reports: {error}", file=sys.stderr)
        return 2
    print("\n".join(str(path) for path in written))
    return 0


def _add_render(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, help="the folder with study.json")
    command.set_defaults(write=lambda given: render(given.folder))


def _add_errors(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", type=Path, nargs="+", metavar="FILE.json", help="records, each context a panel")
    command.add_argument("--out", type=Path, required=True, metavar="NAME", help="writes NAME.svg and NAME.png")
    command.set_defaults(write=lambda given: write_errors(given.files, given.out))


if __name__ == "__main__":
    sys.exit(main())
