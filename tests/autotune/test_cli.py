"""The command line: what it prints, and how it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from truffle.autotune.cli import main
from truffle.model import tuned

QUICK = [
    "--workload", "llama-3.2-1b@8k", "--accuracy-context", "1200", "--accuracy-samples", "1", "--accuracy-steps", "4",
]  # fmt: skip


def test_profiles_lists_the_cards(capsys):
    assert main(["profiles"]) == 0
    printed = capsys.readouterr().out
    for card in (
        "rtx-3090",
        "rtx-4090",
        "rtx-5090",
        "l20",
        "l40s",
        "a100-40gb",
        "a100-80gb",
        "h100",
        "h200",
        "a10",
        "t4",
    ):
        assert card in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpu", "4091"], "expected one of a10, "),
        (["--gpu", "4090", "--workload", "gpt-2@1k"], "expected MODEL@CONTEXT"),
        (["--gpu", "4090", "--workload", "llama-3.1-8b@200k"], "has 131072 positions"),
        (["--gpu", "t4", "--workload", "llama-3.1-70b@64k"], "does not fit t4"),
        (["--gpu", "4090", "--trials", "0"], "trials: expected a number of at least 1, got 0"),
        (["--gpu", "4090", "--timeout", "nan"], "timeout: expected a number of at least 1, got nan"),
        (["--gpu", "4090", "--max-kl", "inf"], "max_kl: expected at least 0, got inf"),
        (["--gpu", "4090", "--accuracy-context", "1000"], "accuracy_context: expected a number of at least 1092"),
        (["--gpu", "4090", "--accuracy-steps", "1"], "accuracy_steps: expected a number of at least 2"),
        (["--gpu", "4090", "--max-kl", "-1"], "max_kl: expected at least 0"),
        (
            ["--gpu", "4090", "--methods", "lsh,quests"],
            "methods: expected some of dense, streaming, ",
        ),
        (["--gpu", "4090", "--methods", ""], "vattention, got ''"),
        (
            ["--gpu", "4090", "--methods", "quest"],
            "methods: expected lsh among them, whose default sets the",
        ),
        (
            ["--gpu", "4090", "--methods", "lsh,scan"],
            "methods: expected scan only where the target is this machine, or its host is calibrated: python -m ",
        ),
        (["--gpu", "4090", "--host", "nowhere.json"], "nowhere.json"),
        (["--gpu", "4090", "--vram-limit", "24"], "vram_limit: expected a size such as 24GiB, got '24'"),
        (["--gpu", "4090", "--vram-limit", "12GiB"], "vram_limit: expected room for 15.0 GiB of weights, got 12.0 GiB"),
        (
            ["--gpu", "none", "--vram-limit", "24GiB"],
            "vram_limit: expected a card to hold to it (--gpu NAME), got no GPU",
        ),
        (["--gpu", "4090", "--resume", "--out", "nowhere"], "expected a study in nowhere"),
        (["--gpu", "4090", "--model", "nowhere"], "model: expected 'smollm2'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_met_is_one_line_and_exit_2(options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("truffle.autotune.setup.CALIBRATION_SECONDS", 0.2)
    assert main([*options, *([] if {"--out", "--model"} & set(options) else ["--dry-run"])]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert list(tmp_path.iterdir()) == []


def test_calibrate_says_how_long_it_takes_and_what_it_is_at(tmp_path, monkeypatch, capsys):
    def calibrate(seconds, with_kernels, say):
        say("kernels")
        raise ValueError("enough")

    monkeypatch.setattr("truffle.bench.bandwidth.calibrate", calibrate)
    assert main(["calibrate", str(tmp_path / "host.json")]) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith("measuring this host takes 52 to 102 s")
    assert rest == ["kernels", "error: enough"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--gpu", "4090", "--trails", "3"],
            "unrecognized arguments: --trails 3; known: --gpu, --vram-limit, --workload",
        ),
        (["--trials", "x"], "argument --trials: invalid int value: 'x'; known: "),
        (["profiles", "--gpu"], "unrecognized arguments: --gpu; known: --json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_option_is_one_line_too(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(options)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")


def test_a_dry_run_says_what_would_be_tried_and_writes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("truffle.autotune.setup.CALIBRATION_SECONDS", 0.2)
    assert main(["--gpu", "4090", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "default lsh (10, 150): " in printed
    assert "exact, all on the GPU: no: needs 28.9 GB" in printed
    assert "one or two halves" in " ".join(printed.split())
    assert main(["--gpu", "4090", "--dry-run", "--vram-limit", "20GiB"]) == 0
    printed = capsys.readouterr().out
    assert "on rtx-4090 held to 20.0 GiB with" in printed
    assert "exact, all on the GPU: no: needs 28.9 GB of the GPU's usable 19.3 GB" in printed
    assert main(["--gpu", "none", "--workload", "llama-3.2-1b@8k", "--dry-run", "--methods", "lsh,scan"]) == 0
    assert "kernels, pinning, waiting, codes in ('host',)" in " ".join(capsys.readouterr().out.split())
    assert list(tmp_path.iterdir()) == []


def test_killed_resumed_and_explained(tmp_path, capsys):
    """One real run, killed without warning after its first trials, gone on with, and shown."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "truffle.autotune", "--gpu", "4090", "--vram-limit", "20GiB", "--out", str(out)]
    command += QUICK
    killed = subprocess.Popen([*command, "--trials", "50"], stderr=subprocess.PIPE, text=True)
    assert killed.stderr
    finished = 0
    for line in killed.stderr:
        finished += "tokens/s" in line
        if finished == 2:
            break
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    time.sleep(0.1)
    assert not (out / "tuned.json").exists()
    resume = ["--out", str(out), *QUICK, "--trials", "3", "--resume"]
    assert main(["--gpu", "4090", "--vram-limit", "22GiB", *resume]) == 2
    assert "made with vram_limit_bytes 21474836480" in capsys.readouterr().err
    assert main(["--gpu", "4090", "--vram-limit", "20GiB", *resume]) == 0
    study = json.loads((out / "study.json").read_text())
    beside = ("baseline", "threads")  # exact ways, and the best point with other numbers of threads
    assert sum(trial["status"] == "complete" and trial["origin"] not in beside for trial in study["trials"]) == 3
    config = tuned.load(out / "tuned.json")
    assert config.hardware.profile == "rtx-4090"
    assert config.hardware.kind == "estimated"
    assert config.hardware.vram_limit_bytes == 20 * 2**30
    assert "--vram-limit 20GiB" in (out / "command.txt").read_text()
    assert {"report.html", "report.md", "trials.csv", "command.txt", "study.journal"} <= {p.name for p in out.iterdir()}
    assert study["answer"]["headline"] in (out / "report.md").read_text().replace("\\", "")
    capsys.readouterr()
    assert main(["show", str(out / "tuned.json")]) == 0
    assert "rtx-4090 held to 20.0 GiB" in " ".join(capsys.readouterr().out.split())
    assert main(["--gpu", "4090", "--out", str(out), *QUICK]) == 2
    assert "--resume" in capsys.readouterr().err
