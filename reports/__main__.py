"""python -m truffle.reports render FOLDER: reports of a finished study, from its records alone."""

import argparse
import sys
from pathlib import Path

from .record import RecordError
from .render import render


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 with one line on stderr when the folder holds no study that can be reported."""
    parser = argparse.ArgumentParser(prog="python -m truffle.reports", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("render", help="write report.html, report.md, trials.csv and the figures")
    command.add_argument("folder", type=Path, help="the folder with study.json")
    folder = parser.parse_args(arguments).folder
    try:
        written = render(folder)
    except (RecordError, OSError) as error:
        print(f"truffle.reports: {error}", file=sys.stderr)
        return 2
    print("\n".join(str(path) for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
