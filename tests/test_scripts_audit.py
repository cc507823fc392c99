"""The look at known vulnerabilities: what it says of a report, and that it passes without a network."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import audit as audit_module
from scripts.audit import audit, told


def test_what_a_newer_release_mends_is_told_and_fails() -> None:
    old = {"name": "old", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
    alone = {"name": "alone", "version": "2.0", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]}
    fine, skipped = {"name": "fine", "version": "3", "vulns": []}, {"name": "ours", "skip_reason": "not there"}
    lines, is_mended = told({"dependencies": [old, alone, fine, skipped]})
    assert is_mended and lines == [
        "audit: old 1.0: PYSEC-1, mended in 1.1",
        "audit: alone 2.0: PYSEC-2, mended in no release yet",
        "audit: 3 of 4 packages looked up, 2 vulnerabilities",
    ]
    assert told({"dependencies": [alone, fine]})[1] is False


def test_without_a_network_it_says_so_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lock = tmp_path / "lock.txt"
    lock.write_text("idna==3.6\n")
    assert audit(lock) == 0
    assert "audit: left out, the list of known vulnerabilities cannot be had" in capsys.readouterr().out


def test_one_that_never_answers_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(command: list[str], **_: object) -> None:
        assert command[:3] == [sys.executable, "-m", "pip_audit"]
        raise subprocess.TimeoutExpired(command, 300)

    monkeypatch.setattr(audit_module.subprocess, "run", never)
    assert audit(tmp_path / "lock.txt") == 0
    assert "no answer within 300 s" in capsys.readouterr().out
