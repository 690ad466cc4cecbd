"""Checkpoints of the original scripts through the whole product: the command, a real worker, and no network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from db import queries
from db.ledger import Ledger
from tests.worker.ldm import save_tiny_parts, write_ckpt, write_single_file

pytestmark = pytest.mark.slow

SIZE = ("--width", "64", "--height", "64", "--steps", "3", "--sampler", "DDIM", "--seed", "1", "--precision", "full")
PROMPT = "a photograph of an astronaut riding a horse"
# Python reads it at its start: a process that asks for a name or another host ends with an error.
NO_NETWORK = """
import socket
connect = socket.socket.connect
def refuse(self, address):
    assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost"), f"The network: {address}"
    return connect(self, address)
socket.socket.connect = refuse
"""


def promptmill(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "producer", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_ckpt_is_added_converted_and_rendered_with_no_network(
    home: Path, home_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site" / "sitecustomize.py").parent.mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NO_NETWORK)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{Path(__file__).parents[2]}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    ask = [sys.executable, "-c", "import socket; print(socket.socket.connect.__name__)"]
    assert subprocess.run(ask, capture_output=True, text=True, check=True).stdout == "refuse\n"
    parts = save_tiny_parts(tmp_path / "parts")
    write_ckpt(parts, tmp_path / "tiny.ckpt", callbacks={"monitor": {1, 2}})
    write_single_file(parts, tmp_path / "same.safetensors")
    promptmill("models", "add", "tiny", "tiny.ckpt")
    rows = [{"prompt": PROMPT, "model": model} for model in ("tiny", "tiny.ckpt", "same.safetensors")]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    promptmill("render", "rows.jsonl", *SIZE)
    named, ckpt, same = (queries.find_job(home_ledger.engine, job) for job in (1, 2, 3))
    assert named.image_sha256 == ckpt.image_sha256 == same.image_sha256
    assert (named.model, named.image_dtype) == ("tiny", "float32")
    assert named.image_checkpoint_hash == ckpt.image_checkpoint_hash != same.image_checkpoint_hash

    promptmill("models", "convert", "tiny")
    promptmill("models", "verify")
    assert json.loads((home / "models.json").read_text())["tiny"]["precision"] == "float16"
    assert not (tmp_path / "empty" / "hub").exists()
