"""Options of the commands that test and show estimates."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_backtest_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `backtest`."""
    parser.add_argument(
        "--records", nargs="+", type=Path, default=[], metavar="FILE", help="of steps that were measured"
    )
    parser.add_argument("--measure", type=Path, metavar="FILE", help="measure a grid of steps here, and write it")
    parser.add_argument(
        "--host", type=Path, metavar="FILE",
        help="calibration of the machine that was measured (default: this one's; without any, the host's part is that "
        "of the steps' own traces)",
    )  # fmt: skip
    parser.add_argument(
        "--undisturbed", action="store_true", help="compare the fastest fifths, where other work ran beside"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write errors and steps")
    parser.add_argument("--keep", action="store_true", help="show these errors with estimates from now on")


def add_estimate_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `estimate`."""
    parser.add_argument("--workload", default="llama-3.1-8b@96k", help="(%(default)s)")
    parser.add_argument("--gpu", default="all", metavar="NAME|all", help="(%(default)s)")
    parser.add_argument("--host", type=Path, metavar="FILE", help="calibration of the host (default: this one's)")
    parser.add_argument("--batch", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--json", action="store_true")
