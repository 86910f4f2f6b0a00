"""Options of the commands that record, replay, verify and compare."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_replay_commands(subparsers: argparse._SubParsersAction) -> None:
    """Add these commands."""
    record = subparsers.add_parser("record", help="record a grid of settings, which --replay takes")
    record.add_argument("file", type=Path, help="where to write it; a file that is there is gone on with")
    record.add_argument("--workload", default="llama-3.1-8b@8k", help="whose layer is timed (%(default)s)")
    record.add_argument("--model", default="none", help="what errors are of, or none: a synthetic layer (%(default)s)")
    record.add_argument("--gpu", default="auto", metavar="NAME|auto|none", help="the card (%(default)s)")
    record.add_argument("--seconds", type=float, default=90.0, help="when to stop, resumable (%(default)s)")
    replay = subparsers.add_parser("replay", help="judge the search on recorded grids, against random search")
    replay.add_argument("files", type=Path, nargs="+", help="recorded grids")
    replay.add_argument("--seeds", type=int, default=20, help="searches of each (%(default)s)")
    replay.add_argument("--share", type=float, default=0.3, help="of the settings, how many are tried (%(default)s)")
    replay.add_argument("--json", type=Path, metavar="FILE", help="write a record a grid")
    verify = subparsers.add_parser("verify", help="measure here what a tuned file says: holds, does not, cannot tell")
    verify.add_argument("file", type=Path, help="tuned.json")
    verify.add_argument("--replay", type=Path, metavar="GRID", help="take figures from a recorded grid")
    verify.add_argument("--host", type=Path, metavar="FILE", help="the calibration that the tuner was given, if any")
    verify.add_argument("--timeout", type=float, default=120.0, help="seconds of measuring (%(default)s)")
    verify.add_argument("--json", action="store_true", help="print the verdict as JSON")
    compare = subparsers.add_parser("compare", help="what tells two studies apart, and whose best is better")
    compare.add_argument("first", type=Path, help="a study's folder, or its study.json")
    compare.add_argument("second", type=Path, help="another's")
    compare.add_argument("--json", action="store_true", help="print the comparison as JSON")
