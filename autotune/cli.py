"""python -m autotune: tune for a card, list the cards, explain, export or verify a tuned file, calibrate, replay."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from truffle.autotune import stack
from truffle.autotune.backtest_options import add_backtest_arguments, add_estimate_arguments
from truffle.autotune.replay_options import add_replay_commands
from truffle.model.parser import OneLineParser

COMMANDS = (
    "tune",
    "worker",
    "profiles",
    "show",
    "export",
    "calibrate",
    "backtest",
    "estimate",
    "record",
    "replay",
    "verify",
    "compare",
)


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 for what the user can mend, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] not in (*COMMANDS, "-h", "--help"):
        given.insert(0, "tune")
    arguments = build_parser().parse_args(given)
    arguments.command_line = shlex.join(["python", "-m", "autotune", *(given[1:] if given[0] == "tune" else given)])
    from truffle.autotune import commands
    from truffle.autotune.measuring import MeasureError

    try:
        return getattr(commands, arguments.command)(arguments)
    except (ValueError, OSError, MeasureError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; finished trials are kept, --resume goes on", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `tune` is the default one."""
    parser = OneLineParser(prog="python -m autotune", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True)
    tune = subparsers.add_parser("tune", help="search settings and write a tuned config and reports (the default)")
    add_tune_arguments(tune)
    worker = subparsers.add_parser("worker", help="run trials of a study that a tuner keeps in a database")
    worker.add_argument("--storage", required=True, metavar="URL", help="the database, as the tuner was given it")
    worker.add_argument("--study", metavar="NAME", help="the study (default: the only one that the database holds)")
    worker.add_argument("--host", type=Path, metavar="FILE", help="the calibration that the tuner was given, if any")
    profiles = subparsers.add_parser("profiles", help="list the cards that --gpu takes")
    profiles.add_argument("--json", action="store_true")
    show = subparsers.add_parser("show", help="explain a tuned file")
    show.add_argument("file", type=Path, help="tuned.json")
    export = subparsers.add_parser("export", help="write a tuned file down as another program takes it")
    export.add_argument("file", type=Path, help="tuned.json")
    export.add_argument("--to", required=True, choices=stack.names(), help="that program")
    export.add_argument(
        "--point", type=int, default=0, metavar="N", help="of the file's front; 0 is its config (%(default)s)"
    )
    calibrate = subparsers.add_parser("calibrate", help="measure this host's memory, kernels and card, for estimates")
    calibrate.add_argument("file", type=Path, nargs="?", help="where to write it (default: the user's cache folder)")
    calibrate.add_argument(
        "--seconds", type=float, default=12.0, help="of memory, and as many of kernels (%(default)s)"
    )
    backtest = subparsers.add_parser("backtest", help="compare predicted with measured decode steps")
    add_backtest_arguments(backtest)
    estimate = subparsers.add_parser("estimate", help="steps of a workload on every card, estimated")
    add_estimate_arguments(estimate)
    add_replay_commands(subparsers)
    return parser


def add_tune_arguments(tune: argparse.ArgumentParser) -> None:
    """Options of `tune`."""
    tune.add_argument("--gpu", default="auto", metavar="NAME|auto|none", help="the card to tune for (%(default)s)")
    tune.add_argument(
        "--vram-limit", metavar="SIZE", help="hold the card to as much memory, such as 24GiB (default: all it has)"
    )
    tune.add_argument("--workload", default="llama-3.1-8b@96k", help="what is timed (%(default)s)")
    tune.add_argument("--model", default="smollm2", help="what accuracy is measured on (%(default)s)")
    tune.add_argument(
        "--methods", default="lsh", metavar="METHOD[,METHOD]", help="what is searched, such as lsh,quest (%(default)s)"
    )
    tune.add_argument("--max-kl", type=float, help="error limit (default: the paper default's own KL in this run)")
    tune.add_argument("--max-latency-ms", type=float, help="limit on a step, which gives each request a token")
    tune.add_argument(
        "--min-score", action="append", default=[], metavar="TASK=SCORE",
        help="a score, 0 to 100, that a task must reach on --model, such as niah_single_1=90; may be repeated",
    )  # fmt: skip
    tune.add_argument(
        "--trials", type=int, default=24, help="finished trials in total, before threads are swept (%(default)s)"
    )
    tune.add_argument(
        "--timeout",
        type=float,
        default=360.0,
        help="seconds of this run's search; confirming the best takes up to a quarter as long again (%(default)s)",
    )
    tune.add_argument(
        "--host", type=Path, metavar="FILE", help="calibration of the host to tune for (default: this one)"
    )
    tune.add_argument("--out", type=Path, metavar="DIR", help="output folder (tuned/GPU)")
    tune.add_argument(
        "--storage", metavar="URL", help="keep the study in a database that workers join, postgresql://user@host/name"
    )
    tune.add_argument("--study", metavar="NAME", help="what the study in --storage is called (default: as --out is)")
    tune.add_argument(
        "--replay", type=Path, metavar="GRID", help="tune a recorded grid in place of this machine, measuring nothing"
    )
    tune.add_argument("--resume", action="store_true", help="go on with the study in --out")
    tune.add_argument("--seed", type=int, default=0, help="of hyperplanes, keys and sampler (%(default)s)")
    tune.add_argument(
        "--dry-run", action="store_true", help="say what would be tried; no setting is measured, nothing is written"
    )
    tune.add_argument("--json", action="store_true", help="print the study as JSON instead of tables")
    accuracy = tune.add_argument_group("accuracy")
    accuracy.add_argument("--accuracy-context", type=int, default=4096, help="prompt tokens (%(default)s)")
    accuracy.add_argument("--accuracy-samples", type=int, default=2, help="texts (%(default)s)")
    accuracy.add_argument(
        "--accuracy-only",
        action="store_true",
        help="study KL and rows read, not throughput: workers of --storage may then be any machines",
    )
    accuracy.add_argument("--accuracy-steps", type=int, default=24, help="tokens decoded after each (%(default)s)")


def render_reports(folder: Path, study: dict):
    """Write the reports of a study's folder; returns its table for a terminal."""
    from truffle.reports.render import render
    from truffle.reports.tables import trials_table

    render(folder)
    return trials_table(study)
