"""A study on a real PostgreSQL server: several workers, one of which dies, and those that are refused."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tests.autotune.fakes import Bench, space
from tests.autotune.shared_worker import BEAT_S, SILENT_S
from truffle.autotune.accuracy_space import AccuracySpace
from truffle.autotune.cli import build_parser, main
from truffle.autotune.limits import Limits
from truffle.autotune.options import fingerprint
from truffle.autotune.search import Search
from truffle.autotune.sharing import open_storage
from truffle.autotune.storage import StudyError, stored_records
from truffle.autotune.worker import announce, joined, open_shared

TRIALS = 14


@pytest.fixture(scope="module")
def url():
    """A server of our own, which refuses to run as root."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("needs PostgreSQL's initdb and pg_ctl")
    pytest.importorskip("psycopg")
    who = {"user": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    if who:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(*command: str) -> None:
        with open("/dev/null") as nothing:  # the server keeps what it is given open
            subprocess.run(command, check=True, cwd=folder, stdin=nothing, stdout=subprocess.DEVNULL, **who)

    data, settings = str(folder / "data"), f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -F"
    run("initdb", "-D", data, "-A", "trust", "-U", "truffle", "--no-sync")
    run("pg_ctl", "-D", data, "-o", settings, "-l", str(folder / "log"), "-w", "start")
    yield f"postgresql://truffle@127.0.0.1:{port}/postgres"
    run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder)


def options(**changes) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(build_parser().parse_args(["tune"])), "gpu": "4090", **changes})


def worker(url: str, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-W", "ignore", "-m", "tests.autotune.shared_worker", url, str(TRIALS), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_three_workers_one_of_which_is_killed(url, tmp_path):
    there, arguments = space(), options()
    marks = fingerprint(arguments, there.workload, there.target)
    storage = open_storage(url, BEAT_S, SILENT_S)
    with pytest.raises(StudyError, match="study: expected a name, as the storage holds 0"):
        joined(storage, None)
    study = open_shared(url, tmp_path / "shared", None, False, marks, 0)
    with pytest.raises(StudyError, match="which none has"):
        joined(storage, "shared")
    announce(study, arguments, "rtx-4090", 0.0)
    Search(study, there, Bench(), Limits(), 0.0, lambda record: None).plan()

    doomed = worker(url, 600)
    assert doomed.stdout.readline() == "measuring\n"  # the default, which all others wait for
    others = [worker(url, 0.3), worker(url, 0.3)]
    doomed.send_signal(signal.SIGKILL)
    doomed.wait()
    for one in others:
        said, _ = one.communicate(timeout=150)
        assert said.splitlines()[-1] == "trials"
        assert said.count("measuring") > 3, "each of them had its share"

    states = Counter(trial.state for trial in study.get_trials())
    assert states[TrialState.FAIL] == 1, "what the dead worker was at"
    assert states[TrialState.COMPLETE] >= TRIALS
    done = [record for record in stored_records(study) if record.status == "complete"]
    planned = [(r.origin, r.K, r.L) for r in done if r.origin != "search"]
    assert planned.count(("default", 10, 150)) == 1, "retried, and once"
    assert len(planned) == len(set(planned)) == 6
    assert study.user_attrs["max_kl"] == pytest.approx(0.02)

    with pytest.raises(StudyError, match="expected none called 'shared' in the storage; --resume goes on"):
        open_shared(url, tmp_path / "shared", None, False, marks, 0)
    other = {**marks, "workload": "llama-3.2-1b@8k"}
    with pytest.raises(StudyError, match=r"made with workload .llama.*@96k., expected the same, got .llama.*@8k."):
        open_shared(url, tmp_path / "shared", None, True, other, 0)


@pytest.mark.slow
def test_a_worker_on_other_hardware_is_refused(url, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("truffle.autotune.setup.CALIBRATION_SECONDS", 0.2)
    there, arguments = space(), options()
    marks = fingerprint(arguments, there.workload, there.target)
    study = open_shared(url, tmp_path / "other", None, False, marks, 0)
    announce(study, arguments, "rtx-4090", 0.0)
    assert main(["worker", "--storage", url, "--study", "other"]) == 2
    assert "made with host ['test CPU', 4, 'scalar'], expected the same" in capsys.readouterr().err
    assert main(["worker", "--storage", url, "--study", "none"]) == 2
    assert "study: expected one of " in capsys.readouterr().err


@pytest.mark.slow
def test_any_machine_joins_a_study_of_accuracy_alone(url, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("truffle.autotune.setup.CALIBRATION_SECONDS", 0.2)
    plain = space()
    there = AccuracySpace(plain.workload, plain.target, plain.threads, 0, ("lsh",))
    arguments = options(accuracy_only=True, accuracy_context=1092, accuracy_samples=1, accuracy_steps=2)
    space_marks = {f"space {name}": value for name, value in there.marks.items()}
    marks = {**fingerprint(arguments, there.workload, there.target), **space_marks}
    study = open_shared(url, tmp_path / "accuracy", None, False, marks, 0)
    announce(study, arguments, "none", 0.0)
    study.set_user_attr("stopped", "its tuner has stopped")
    assert main(["worker", "--storage", url, "--study", "accuracy"]) == 0
    assert "the study ended: its tuner has stopped" in capsys.readouterr().err


def _opened(storage, name: str) -> bool:
    try:
        return bool(joined(storage, name))
    except StudyError:
        return False


@pytest.mark.slow
def test_a_tuner_and_a_worker_as_commands(url, tmp_path):
    """Both measure for real, on the smallest setting that there is."""
    command = [sys.executable, "-m", "truffle.autotune"]
    setting = ["--accuracy-context", "1092", "--accuracy-samples", "1", "--accuracy-steps", "2", "--trials", "10"]
    out = tmp_path / "two"
    tuner = subprocess.Popen(
        [*command, "--gpu", "none", "--accuracy-only", "--storage", url, "--out", str(out), *setting],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    storage = open_storage(url)
    while not _opened(storage, "two"):
        assert tuner.poll() is None
        time.sleep(0.5)
    joining = subprocess.run(
        [*command, "worker", "--storage", url, "--study", "two"], capture_output=True, text=True, timeout=500
    )
    said, _ = tuner.communicate(timeout=500)
    assert (tuner.returncode, joining.returncode) == (0, 0), joining.stderr
    assert "points, stopped by trials" in said
    assert "the study ended" in joining.stderr
    records = json.loads((out / "accuracy.json").read_text())["records"]
    assert sum(record["status"] == "complete" for record in records) >= 10


@pytest.mark.parametrize(
    ("url", "message"),
    [("server/name", "storage: expected an address such as"), ("nosuch://host/name", "storage: ")],
)
def test_an_address_that_leads_nowhere_is_refused(url, message, capsys):
    assert main(["worker", "--storage", url]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
