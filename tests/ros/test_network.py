"""Camera and node on two computers, made of network namespaces: what a bad or broken link does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")
pytest.importorskip("pose_node.msg", reason="messages missing: build the package first")

from pose_node.models.fetch import cached_model_path

pytestmark = [pytest.mark.ros, pytest.mark.slow]

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def namespaces() -> None:
    """Skips the test where network namespaces cannot be made, or the video is not there."""
    if not cached_model_path("sample-video").is_file():
        pytest.skip("sample video missing: run `pose-node fetch sample-video`")
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            pytest.skip(f"network namespaces missing: there is no program {program}")
    command = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--ipc", "true"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("network namespaces missing: they are not permitted here")


def run_case(name: str, folder: Path) -> dict[str, Any]:
    """Run a case of the benchmark in a short form; its result."""
    done = subprocess.run(
        [
            *(sys.executable, REPOSITORY / "benchmarks/network.py", name, "--image-size", "64"),
            *("--seconds", "3", "--rate", "10", "--json", folder / "result.json"),
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,  # far more than it takes: fail rather than hang
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads((folder / "result.json").read_text())["cases"]
    assert result["connected"], done.stderr
    found: dict[str, Any] = result
    return found


@pytest.mark.usefixtures("namespaces", "yolo11n_pose")
def test_images_cross_a_link_that_loses_packets(tmp_path: Path) -> None:
    result = run_case("loss-1-wireless-reliable", tmp_path)
    assert result["counted"]["received"] > 0
    assert result["poses per second"] > 0
    assert result["link MB/s"] > 0.01, "the images went another way"


@pytest.mark.usefixtures("namespaces", "yolo11n_pose")
def test_people_come_again_when_the_link_does(tmp_path: Path) -> None:
    result = run_case("down-5", tmp_path)
    assert result["poses while down"] == 0
    assert result["seconds from link to poses"] is not None
    assert result["poses per second after"] > 0
