"""``pose-node view`` with results."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose_node import cli
from pose_node.poses import Poses
from pose_node.prediction.frames import RecordedFrame
from pose_node.prediction.outputs import frame_as_json

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run over two images, of which one is gone."""
    pytest.importorskip("rerun", reason="the Rerun SDK is missing")
    image = np.zeros((24, 32, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "0.png"), image)
    people = Poses.from_arrays([[1, 2, 30, 20]], [0.5], np.ones((1, 17, 3)))
    folder = tmp_path / "run"
    folder.mkdir()
    lines = [
        frame_as_json(RecordedFrame(f"{index}.png", "", index, None, image), people)
        for index in range(2)
    ]
    (folder / "poses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_recording_is_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "view.rrd"
    assert cli.main(["view", str(run), "--save", str(path)]) == 0
    output = capsys.readouterr()
    assert "2 frames" in output.out
    assert f"{path} is written" in output.out
    assert output.err == "pose-node: no image: 1.png is not there; --images DIR says where it is\n"
    assert path.stat().st_size > 0


def test_people_without_images(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "view.rrd"
    assert cli.main(["view", str(run / "poses.jsonl"), "--no-images", "--save", str(path)]) == 0
    assert capsys.readouterr().err == ""


def test_empty_results_write_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "poses.jsonl").write_text("")
    assert cli.main(["view", str(run), "--save", str(run / "view.rrd")]) == 1
    assert "is empty" in capsys.readouterr().err
    assert [path.name for path in run.iterdir()] == ["poses.jsonl"]


def test_a_line_that_is_no_result_writes_nothing(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (run / "poses.jsonl").open("a") as file:
        file.write("{")
    assert cli.main(["view", str(run), "--save", str(run / "view.rrd")]) == 1
    assert "line 3 is no result" in capsys.readouterr().err
    assert not list(run.glob("*.rrd"))


def test_many_missing_images_are_counted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = json.loads((run / "poses.jsonl").read_text().splitlines()[0])
    lines = [json.dumps({**line, "source": f"gone{index}.png"}) for index in range(9)]
    (run / "poses.jsonl").write_text("\n".join(lines))
    assert cli.main(["view", str(run), "--save", str(run / "view.rrd")]) == 0
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 6
    assert errors[-1] == "pose-node: no images of 9 sources in all"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--port", "0"], "expected 1 to 65535, got 0"),
        (["--jpeg-quality", "101"], "expected 1 to 100, got 101"),
        (["--save", "a.rrd", "--serve"], "not allowed with argument"),
        (["--port", "9091"], "argument --port: needs --serve"),
        (["--save", "a.rrd", "--data-port", "9877"], "argument --data-port: needs --serve"),
        (["--host", "robot"], "argument --host: needs --serve"),
        (["--save", "a.rrd", "--memory", "2GiB"], "argument --memory: needs a window or --serve"),
    ],
)
def test_arguments_that_make_no_sense(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["view", "run", *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_without_a_screen(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["view", str(run)]) == 1
    assert "--save FILE.rrd" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_runs_until_a_signal(run: Path, number: int) -> None:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("", 0))
        second.bind(("", 0))
        ports = [str(item.getsockname()[1]) for item in (first, second)]
    arguments = ["view", str(run), "--serve", "--port", ports[0], "--data-port", ports[1]]
    with subprocess.Popen(
        [sys.executable, "-m", "pose_node", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if "Ctrl-C" in line:
                process.send_signal(number)
        assert process.wait(timeout=60) == 0
    assert f"http://localhost:{ports[0]}/" in printed[0]
    assert printed[-1] == "the viewer's server has ended\n"


def test_nothing_of_the_viewer_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, pose_node.cli, pose_node.viewing.output, pose_node.viewing.results\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "pose_node" in loaded
    assert not {"rerun", "pyarrow", "rclpy", "torch"} & set(loaded)
