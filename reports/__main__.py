"""python -m truffle.reports: reports and figures from records alone."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from .comparison import compare
from .error_figure import write_errors
from .record import RecordError
from .render import compared, draw, render


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 with one line on stderr when there are no records that can be reported."""
    parser = argparse.ArgumentParser(prog="python -m truffle.reports", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_render(commands.add_parser("render", help="write a study's report.html, report.md, tables and pictures"))
    _add_compare(commands.add_parser("compare", help="print two studies side by side, as Markdown"))
    _add_draw(commands.add_parser("draw", help="draw what records hold without a study, as SVG and PNG"))
    _add_errors(commands.add_parser("errors", help="draw KL against rows read, from bench accuracy --texts --json"))
    given = parser.parse_args(arguments)
    write: Callable[[argparse.Namespace], list[Path]] = given.write
    try:
        written = write(given)
    except (RecordError, OSError) as error:
        print(f"truffle.reports: {error}", file=sys.stderr)
        return 2
    if written:
        print("\n".join(str(path) for path in written))
    return 0


def _add_render(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, help="the folder with study.json")
    told = "what bench scaling, decode, accuracy and op wrote by --json, for further sections"
    command.add_argument("--records", type=Path, nargs="+", default=[], metavar="FILE.json", help=told)
    command.set_defaults(write=lambda given: render(given.folder, given.records))


def _add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("folders", type=Path, nargs=2, metavar="DIR", help="a folder with study.json")
    command.add_argument("--out", type=Path, metavar="DIR", help="write compare.md and compare.html there instead")
    command.set_defaults(write=lambda given: _compare(given.folders[0], given.folders[1], given.out))


def _compare(first: Path, second: Path, out: Path | None) -> list[Path]:
    text, page = compared(compare(first, second))
    if out is None:
        print(text)
        return []
    out.mkdir(parents=True, exist_ok=True)
    written = {out / "compare.md": text, out / "compare.html": page}
    for path, content in written.items():
        path.write_text(content, encoding="utf-8")
    return list(written)


def _add_draw(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", type=Path, nargs="+", metavar="FILE.json", help="what python -m truffle.bench wrote")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where pictures go")
    command.set_defaults(write=lambda given: draw(given.files, given.out))


def _add_errors(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", type=Path, nargs="+", metavar="FILE.json", help="records, each context a panel")
    command.add_argument("--out", type=Path, required=True, metavar="NAME", help="writes NAME.svg and NAME.png")
    command.set_defaults(write=lambda given: write_errors(given.files, given.out))


if __name__ == "__main__":
    sys.exit(main())
