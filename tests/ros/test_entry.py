"""The start of every process: what a signal does to it before it can do anything itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")
pytest.importorskip("pose_node.msg", reason="messages missing: build the package first")

from pose_node.ros.entry import PROCESSES, with_log_level

pytestmark = pytest.mark.ros

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
ARGUMENTS = {"camera": ["0"], "run": [], "demo": [], "exercise": [], "view --live": ["--serve"]}


def signal_at_import(number: int, module: str, *command: str) -> tuple[int, list[str]]:
    """Send a signal when a process has imported a module: its exit code and what it printed."""
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", *command],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            if not line.startswith("import time:"):
                printed.append(line)
            elif line.endswith(f" {module}\n"):
                process.send_signal(number)
        code = process.wait(timeout=60)
    return code, printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["numpy", "rclpy"])
@pytest.mark.parametrize("name", PROCESSES)
def test_a_signal_while_it_is_imported_ends_it_without_a_word(
    name: str, module: str, number: int
) -> None:
    command = ("-m", "pose_node.ros.entry", name, *ARGUMENTS[name])
    code, printed = signal_at_import(number, module, *command)
    assert printed == []
    assert code == (130 if name == "demo" else 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_command_is_imported(number: int) -> None:
    command = ("-m", "pose_node", "camera", "0")
    assert signal_at_import(number, "argparse", *command) == (0, [])


def test_ctrl_c_while_another_command_is_imported() -> None:
    command = ("-m", "pose_node", "models")
    assert signal_at_import(signal.SIGINT, "argparse", *command) == (130, [])


@pytest.mark.parametrize("name", ["camera", "exercise", "pose_node"])
def test_the_executables_of_the_package_start_this_way(name: str) -> None:
    script = str(REPOSITORY / "scripts/ros" / name)
    assert signal_at_import(signal.SIGINT, "rclpy", script, "0") == (0, [])


def test_nothing_that_takes_time_is_imported_before() -> None:
    code = "import sys, pose_node.__main__; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "pose_node" in loaded
    assert not {"numpy", "cv2", "torch", "rclpy"} & set(loaded)


def test_a_process_that_does_not_exist() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pose_node.ros.entry", "stop"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("usage: python -m pose_node.ros.entry {run,camera,demo,")


QUIET = [
    *("--log-level", "rcl:=info", "--log-level", "rcl_lifecycle:=info"),
    *("--log-level", "rmw_fastrtps_cpp:=info", "--log-level", "rmw_fastrtps_shared_cpp:=info"),
    *("--log-level", "rclpy:=info"),
]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        (["0", "--once"], ["0", "--once"]),
        (["--log-level", "warn"], ["--ros-args", "--log-level", "warn"]),
        (
            ["0", "--log-level=error", "--once"],
            ["0", "--once", "--ros-args", "--log-level", "error"],
        ),
        (["--log-level", "debug", "0"], ["0", "--ros-args", "--log-level", "debug", *QUIET]),
        (
            ["--log-level", "warn", "--ros-args", "-p", "half:=true"],
            ["--ros-args", "--log-level", "warn", "--", "--ros-args", "-p", "half:=true"],
        ),
        (["--ros-args", "--log-level", "any:=debug"], ["--ros-args", "--log-level", "any:=debug"]),
    ],
)
def test_log_level_becomes_that_of_ros(given: list[str], expected: list[str]) -> None:
    assert with_log_level(given) == expected


@pytest.mark.parametrize(
    ("given", "got"), [(["--log-level", "loud"], "'loud'"), (["--log-level"], "''")]
)
def test_a_wrong_log_level_is_refused(given: list[str], got: str) -> None:
    with pytest.raises(ValueError, match=f"must be one of debug, info, warn, error, got {got}"):
        with_log_level(given)


@pytest.mark.parametrize("name", PROCESSES)
def test_every_process_takes_a_log_level(name: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pose_node.ros.entry", name, "--log-level", "loud"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"pose-node {name}: error: --log-level must be one of debug, ")
