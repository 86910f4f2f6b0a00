"""What a run leaves behind that is ended while exact attention is measured, and that a dry run leaves nothing."""

from __future__ import annotations

import contextlib

import pytest

from tests.autotune.fakes import Bench, space
from truffle.autotune import tune as tuning
from truffle.autotune.cli import main
from truffle.autotune.limits import Limits
from truffle.autotune.lock import LOCK
from truffle.autotune.options import require_free
from truffle.autotune.samples import SAMPLES
from truffle.autotune.setup import Setup
from truffle.autotune.storage import JOURNAL, StudyError, open_study
from truffle.bench.accuracy import Setting

HERE = ["--gpu", "none", "--workload", "llama-3.2-1b@8k", "--trials", "1"]


class Killed(BaseException):
    """As little is done about it as about SIGKILL."""


class Timed(Bench):
    """Gives samples, and ends the run at its second measurement."""

    def measure(self, config, fidelity, repeat=0):
        if self.timed == 1 and self._error:
            raise self._error
        found = super().measure(config, fidelity, repeat)
        found.samples["step_ms"] = [1.0]
        return found


@pytest.fixture
def marks(monkeypatch):
    """The fingerprint of a run on this machine whose second measurement never ends."""
    there, found = space(gpu="none", workload="llama-3.2-1b@8k"), {"machine": "this"}
    setup = Setup(there.workload, there.target, there, Setting(4096, 2, 24), Limits(), None, found)
    monkeypatch.setattr(tuning, "set_up", lambda arguments: setup)
    return found


@pytest.mark.parametrize("error", [Killed(), KeyboardInterrupt()], ids=["killed", "interrupted"])
def test_a_run_ended_while_exact_attention_is_measured_is_gone_on_with(error, marks, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tuning, "bench_of", lambda setup: contextlib.nullcontext(Timed(error=error)))
    out = tmp_path / "out"
    with contextlib.suppress(Killed):
        assert main([*HERE, "--out", str(out)]) == 130
    assert {path.name for path in out.iterdir()} >= {JOURNAL, SAMPLES}
    assert main([*HERE, "--out", str(out)]) == 2
    assert "--resume goes on with a study there" in capsys.readouterr().err
    with contextlib.suppress(Killed):
        assert main([*HERE, "--out", str(out), "--resume"]) == 130
    assert len((out / SAMPLES).read_text().splitlines()) == 2, "it measured again"


def test_a_shared_study_is_gone_on_with_whatever_its_folder_holds(tmp_path):
    (tmp_path / SAMPLES).write_text("{}\n")
    (tmp_path / LOCK).touch()
    require_free(tmp_path, resume=True, shared=True)
    require_free(tmp_path / "new", resume=True, shared=True)
    with pytest.raises(StudyError, match="--resume goes on"):
        require_free(tmp_path, resume=False, shared=True)
    with pytest.raises(StudyError, match="resume: expected a study in"):
        require_free(tmp_path, resume=True)


def test_a_dry_run_of_accuracy_alone_measures_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("truffle.autotune.setup.CALIBRATION_SECONDS", 0.1)
    monkeypatch.setattr(tuning, "bench_of", lambda setup: pytest.fail("it would measure"))
    assert main(["--gpu", "none", "--accuracy-only", "--dry-run"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "default lsh (10, 150) paper lsh (8, 75)" in printed
    assert "then the sampler: lsh with K, L, min_hits" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_going_on_compares_the_study_and_leaves_it(marks, tmp_path, capsys):
    assert main([*HERE, "--out", str(tmp_path), "--resume", "--dry-run"]) == 2
    assert f"resume: expected a study in {tmp_path}, found none" in capsys.readouterr().err
    open_study(tmp_path, marks, 0)
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes() + b'{"torn')
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main([*HERE, "--out", str(tmp_path), "--resume", "--dry-run"]) == 0
    marks["machine"] = "another"
    assert main([*HERE, "--out", str(tmp_path), "--resume", "--dry-run"]) == 2
    assert "made with machine 'this', expected the same, got 'another'" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
