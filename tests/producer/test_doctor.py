"""The doctor finds what is wrong, and says what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from configs.settings import get_settings
from producer import doctor

Call = Callable[..., Result]


@pytest.mark.slow
def test_torch_and_the_device_are_looked_at_by_another_process(
    home: Path,  # noqa: ARG001 - settings
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROMPTMILL_EXACT", "1")
    findings = {finding.name: finding for finding in doctor.check_device()}
    assert findings["torch"].ok
    assert findings["device"].ok
    assert "matrix product is right" in findings["device"].detail
    assert "canaries of 128x128 come out the same" in findings["exact"].detail


def test_a_sound_ledger_and_an_embedded_queue_are_fine(home: Path) -> None:  # noqa: ARG001 - settings
    settings = get_settings()
    assert doctor.check_ledger(settings).ok
    assert doctor.check_queue(settings).ok
    assert doctor.check_disk(settings).ok


def test_a_home_that_is_a_file_is_a_fault(home: Path) -> None:
    home.write_text("no folder")
    found = doctor._guarded(doctor.check_queue, get_settings())
    assert not found.ok
    assert "cannot be used (not a directory)" in found.detail


def test_a_full_disk_is_a_fault(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - settings
    monkeypatch.setenv("PROMPTMILL_DISK_WATERMARK_MB", str(10**9))
    finding = doctor.check_disk(get_settings())
    assert not finding.ok
    assert "make room" in finding.remedy


def test_a_model_that_is_not_there_is_a_fault(home: Path) -> None:
    home.mkdir()
    (home / "promptmill.toml").write_text('[job]\nmodel = "/nowhere/model.safetensors"\n')
    finding = doctor.check_checkpoint(get_settings())
    assert not finding.ok
    assert "/nowhere/model.safetensors is not there" in finding.detail


def test_faults_are_printed_with_their_remedy(promptmill: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTMILL_BROKER_URL", "redis://127.0.0.1:1")
    monkeypatch.setattr(doctor, "check_device", lambda: iter(()))
    result = promptmill("doctor")
    assert result.exit_code == 1
    assert "FAULT queue" in result.stdout
    assert "start Redis, or correct or unset PROMPTMILL_BROKER_URL" in result.stdout
