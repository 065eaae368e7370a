"""Full disks, caches that cannot be written or read, no network: one clear line, no traceback."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch missing")

REPOSITORY = Path(__file__).resolve().parents[1]
NOWHERE = "http://127.0.0.1:9"  # the port that discards, where nobody listens


def run(
    *arguments: str, cwd: Path, largest_file: int | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `pose-node`; files that it writes cannot grow over `largest_file` bytes."""

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(
        [sys.executable, "-B", "-m", "pose_node", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def assert_clear(ended: subprocess.CompletedProcess[str], part: str) -> None:
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert part in ended.stderr


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A noisy picture."""
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    return path


def test_fetch_into_a_cache_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    ended = run("fetch", "yolo11n-pose", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert_clear(ended, "XDG_CACHE_HOME")


def test_fetch_without_a_network(tmp_path: Path) -> None:
    proxies = {"https_proxy": NOWHERE, "HTTPS_PROXY": NOWHERE, "no_proxy": "", "NO_PROXY": ""}
    ended = run("fetch", "yolo11n-pose", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path), **proxies)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.rglob("*.pt"))


def test_a_damaged_file_in_the_cache_is_refused(
    tmp_path: Path, picture: Path, yolo11n_pose: Path
) -> None:
    cached = tmp_path / "pose_node/models" / yolo11n_pose.name
    cached.parent.mkdir(parents=True)
    data = bytearray(yolo11n_pose.read_bytes())
    data[len(data) // 2] ^= 1
    cached.write_bytes(data)
    ended = run(
        *("predict", str(picture), "--model", "yolo11n-pose", "--output", "out"),
        cwd=tmp_path,
        XDG_CACHE_HOME=str(tmp_path),
    )
    assert_clear(ended, "fetch")


CHECK = ("--check-image",)


@pytest.mark.parametrize(
    "command",
    [
        lambda picture: ["predict", picture, "--output", "out"],
        lambda picture: [*("export", "yolo11n-pose", "--format", "onnx"), *CHECK, picture],
        lambda picture: [*("export", "yolo11n-pose", "--format", "torchscript"), *CHECK, picture],
        lambda picture: [*("export", "yolo11n-pose", "--format", "torch-export"), *CHECK, picture],
    ],
    ids=["predict", "export", "export-torchscript", "export-torch-export"],
)
def test_a_full_disk(
    tmp_path: Path, picture: Path, yolo11n_pose: Path, command: Callable[[str], list[str]]
) -> None:
    arguments = command(str(picture))
    ended = run(*arguments, cwd=tmp_path, largest_file=10)
    assert_clear(ended, "File too large")
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path != picture]
    assert all(path.stat().st_size <= 10 for path in left)
