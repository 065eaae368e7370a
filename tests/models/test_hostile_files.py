"""Hostile model files do nothing, take little, and are refused with a reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models.hostile_files import PAYLOAD, HostileFile, hostile_files

REPOSITORY = Path(__file__).resolve().parents[2]
ALLOWANCE = 128 << 20  # bytes, on top of two and a half times the file

FILES = hostile_files("touch WITNESS")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All of them, as files that would touch `witness`; a hundred megabytes, removed afterwards."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "hostile_payload.py").write_text(PAYLOAD)
    files = hostile_files(f"touch {folder / 'witness'}")
    for name, file in files.items():
        path = folder / f"{name}{file.suffix}"
        path.write_bytes(file.make())
        if file.size:
            with path.open("r+b") as sparse:
                sparse.truncate(file.size)
    yield folder
    for path in folder.glob("*-*.*"):
        path.unlink()


@pytest.fixture(scope="module")
def reports(folder: Path) -> dict[str, dict[str, Any]]:
    """What became of each."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.hostile_run", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {report["name"]: report for report in found}


def test_the_witness_would_tell(tmp_path: Path) -> None:
    """Python's own `pickle` does what these files ask for: the payloads are real."""
    (tmp_path / "hostile_payload.py").write_text(PAYLOAD)
    made = hostile_files(f"touch {tmp_path / 'witness'}")
    checked = 0
    for name in (
        "call-os.system-reduce",
        "call-builtins.eval-stack",
        "call-hostile_payload.run-reduce",
    ):
        archive = tmp_path / "m.zip"
        archive.write_bytes(made[name].make())
        code = (
            "import pickle, sys, zipfile; sys.path.insert(0, sys.argv[1]);"
            "pickle.loads(zipfile.ZipFile(sys.argv[2]).read('m/data.pkl'))"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path), str(archive)], check=True)
        witness = tmp_path / "witness"
        checked += witness.exists()
        witness.unlink()
    assert checked == 3


def test_nothing_runs(folder: Path, reports: dict[str, dict[str, Any]]) -> None:
    assert reports.keys() == FILES.keys()
    assert {name: r["events"] for name, r in reports.items() if r["events"]} == {}
    assert not (folder / "witness").exists()


@pytest.mark.parametrize(("name", "file"), FILES.items(), ids=FILES.keys())
def test_it_is_refused_with_a_reason(
    folder: Path, reports: dict[str, dict[str, Any]], name: str, file: HostileFile
) -> None:
    report = reports[name]
    path = folder / f"{name}{file.suffix}"
    if file.reason is None:
        assert report["outcome"] in ("loaded", "refused"), report
    else:
        assert report["outcome"] == "refused", report
        assert report["text"].startswith(f"cannot read {path}: ")
        assert re.search(file.reason, report["text"]), report["text"]
    assert report["length"] < 2000  # a text for people, and for logs
    size = path.stat().st_blocks * 512
    assert report["bytes"] < 2.5 * size + ALLOWANCE
