"""The command line: exit codes, messages, and what each subcommand prints."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose_node import __version__, cli, commands
from pose_node.evaluation import STATISTICS
from pose_node.models.catalog import KNOWN_MODELS
from pose_node.models.fetch import cached_model_path
from pose_node.ros import entry

TINY = "fixtures/ul_yolo11_tiny_pose.pt"


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def fetched_video(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which fetching puts a file, without a network; its path."""
    path = cached_model_path("sample-video")

    def fetch_model(name: str, **arguments: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video")
        return path

    def checked_model_path(name: str) -> Path | None:
        return path if path.exists() else None

    monkeypatch.setattr(commands, "fetch_model", fetch_model)
    monkeypatch.setattr(commands, "checked_model_path", checked_model_path)
    return path


# --- The command itself -------------------------------------------------------------------------


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    help_text = capsys.readouterr().out
    for command in ("run", "camera", "demo", "exercise", "fetch", "models", "predict", "evaluate"):
        assert f"\n    {command} " in help_text


def test_help_and_list_need_neither_torch_nor_ros_nor_opencv() -> None:
    done = run_python(
        "import sys; from pose_node.cli import main\n"
        "assert main(['--help']) == 0 and main(['models']) == 0 and main(['run', '-h']) == 0\n"
        "print([name for name in ('torch', 'rclpy', 'cv2') if name in sys.modules])"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"pose-node {__version__}\n"


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pose_node", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"pose-node {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["dance"], ["fetch"], ["models", "info"], ["evaluate", "--model", "x"]),
        ["evaluate", "--model=x", "--images=.", "--annotations=x", "--limit=0"],
        ["fetch", "yolo11n-pose", "yolov8n-pose", "--url", "https://example.com/x"],
    ],
)
def test_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert "error:" in capsys.readouterr().err


def test_an_error_is_one_line(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fetch", "yolo11n-pos"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("pose-node: error: 'yolo11n-pos' is not a name")
    assert captured.err.count("\n") == 1


def test_interrupt_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "list_models", interrupted)
    assert cli.main(["models"]) == 130
    assert capsys.readouterr() == ("", "")


def test_reader_that_leaves_is_no_crash() -> None:
    done = run_python(
        "import os, sys; from pose_node.cli import main\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        "code = main(['models']); sys.stdout.flush(); sys.exit(code)"
    )
    assert (done.returncode, done.stderr) == (1, "")


# --- ROS ----------------------------------------------------------------------------------------


@pytest.fixture
def fake_ros(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """A ROS that can be imported, and processes that only keep their arguments."""
    calls: list[tuple[str, list[str]]] = []
    for name in ("rclpy", "pose_node.msg"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(entry, "end_at_once", lambda code: None)
    for name in ("node_process", "camera", "demo"):
        module = types.ModuleType(name)

        def main(args: Sequence[str], name: str = name) -> int:
            calls.append((name, list(args)))
            return 7

        module.main = main  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"pose_node.ros.{name}", module)
    return calls


@pytest.mark.parametrize(("command", "module"), [("run", "node_process"), ("camera", "camera")])
def test_ros_commands_hand_over_every_argument(
    fake_ros: list[tuple[str, list[str]]], command: str, module: str
) -> None:
    arguments = ["x.mp4", "--rate", "5", "--ros-args", "-p", "device:=cpu", "--json"]
    assert cli.main([command, *arguments]) == 7
    assert fake_ros == [(module, arguments)]


def test_camera_and_demo_have_their_own_help(fake_ros: list[tuple[str, list[str]]]) -> None:
    cli.main(["demo", "--help"])
    assert fake_ros == [("demo", ["--help"])]


def test_help_of_run_needs_no_ros(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--help"]) == 0
    assert "--ros-args -p model:=yolo11n-pose" in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["rclpy", "pose_node.msg"])
def test_missing_ros_is_explained(
    fake_ros: list[tuple[str, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missing: str,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert cli.main(["run"]) == 1
    assert f"`pose-node run` needs {missing}, which cannot be imported" in capsys.readouterr().err
    assert fake_ros == []


# --- fetch --------------------------------------------------------------------------------------


def test_fetch_says_what_it_did_and_under_which_licence(
    fetched_video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["fetch", "sample-video"]) == 0
    first, licence = capsys.readouterr().out.splitlines()
    assert first == f"sample-video: fetched and checked: {fetched_video}"
    assert "BSD-3-Clause" in licence
    assert cli.main(["fetch", "sample-video"]) == 0
    assert "already there, checked" in capsys.readouterr().out


def test_fetch_as_json(fetched_video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fetch", "sample-video", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["path"] == str(fetched_video)
    assert entry["fetched"] is True
    assert entry["licence"] == "BSD-3-Clause"


def test_fetch_prints_the_digest_that_it_trusted(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = cached_model_path("yolov8x-pose")

    def fetch_model(name: str, *, trust_first_download: bool, **arguments: Any) -> Path:
        assert trust_first_download
        path.parent.mkdir(parents=True)
        path.with_name("yolov8x-pose.pt.sha256").write_text("ab" * 32)
        return path

    monkeypatch.setattr(commands, "fetch_model", fetch_model)
    assert cli.main(["fetch", "yolov8x-pose", "--trust-first-download"]) == 0
    out = capsys.readouterr().out
    assert f"trusted as it came, SHA-256 {'ab' * 32}: {path}" in out
    assert "AGPL-3.0" in out


# --- models -------------------------------------------------------------------------------------


def test_table_of_models(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cached_model_path("yolo11n-pose").parent.mkdir(parents=True)
    cached_model_path("yolo11n-pose").write_bytes(b"x")
    assert cli.main(["models"]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert rows["yolo11n-pose"] == (
        ["yolo11n-pose", "yolo11", "n", "2.9", "M", "640", "50.0", "AGPL-3.0", "yes"]
    )
    assert rows["yolo11x-pose"][-1] == "no"


@pytest.mark.parametrize(
    "arguments", [["models", "--json"], ["models", "list", "--json"], ["models", "--json", "list"]]
)
def test_models_as_json(
    cache: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert cli.main(arguments) == 0
    models = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in models] == list(KNOWN_MODELS)
    assert all(model["cached"] is False for model in models)


@pytest.mark.parametrize(
    ("file", "state"), [(TINY, "separate"), ("fixtures/ul_yolo11_tiny_pose_fused.pt", "folded in")]
)
def test_model_info(
    shared: Path, capsys: pytest.CaptureFixture[str], file: str, state: str
) -> None:
    assert cli.main(["models", "info", str(shared / file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["family"] == "yolo11"
    assert facts["keypoints"] == 17
    assert facts["strides"] == [8, 16, 32]
    assert facts["parameters"] > 1000
    assert facts["batch_normalisation"] == state


def test_model_info_for_people(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "info", str(shared / TINY)]) == 0
    assert "strides:              8, 16, 32\n" in capsys.readouterr().out


def test_model_info_of_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pt").write_bytes(b"no model")
    assert cli.main(["models", "info", str(tmp_path / "x.pt")]) == 1
    assert str(tmp_path / "x.pt") in capsys.readouterr().err


def test_convert(
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    converted = tmp_path / "ul_yolo11_tiny_pose.safetensors"
    assert cli.main(["models", "convert", str(shared / TINY)]) == 0
    assert capsys.readouterr().out.startswith("ul_yolo11_tiny_pose.safetensors: ")
    assert cli.main(["models", "info", str(converted), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["family"] == "yolo11"


def test_convert_replaces_only_when_told(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"precious")
    arguments = ["models", "convert", str(shared / TINY), str(target)]
    assert cli.main(arguments) == 1
    assert "--force replaces it" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert cli.main([*arguments, "--force"]) == 0
    assert target.stat().st_size > 1000


# --- evaluate -----------------------------------------------------------------------------------


@pytest.fixture
def annotated(tmp_path: Path) -> list[str]:
    """The arguments that name one black image with no people."""
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((64, 64, 3), np.uint8))
    category = {"id": 1, "name": "person", "keypoints": [str(n) for n in range(17)]}
    image = {"id": 1, "file_name": "1.png", "width": 64, "height": 64}
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps({"images": [image], "annotations": [], "categories": [category]}))
    return ["--images", str(tmp_path), "--annotations", str(file), "--device", "cpu"]


def test_evaluate_prints_and_writes(
    shared: Path, tmp_path: Path, annotated: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools missing: pip install pycocotools")
    out = tmp_path / "out.json"
    arguments = ["evaluate", "--model", str(shared / TINY), *annotated, "--json", str(out)]
    assert cli.main([*arguments, "--image-size", "64", "--score-threshold", "0.9"]) == 0
    names, values, *_ = capsys.readouterr().out.splitlines()
    assert tuple(names.split()) == STATISTICS
    assert values.split() == ["-1.000"] * 10
    written = json.loads(out.read_text())
    assert written["model"] == "ul_yolo11_tiny_pose"
    assert len(written["model_sha256"]) == 64
    assert written["settings"]["image_size"] == 64
    assert written["settings"]["score_threshold"] == 0.9
    assert written["images"] == 1
    assert set(written["stage_milliseconds"]) == {"preprocess", "network", "postprocess"}


@pytest.mark.parametrize(
    ("setting", "reason"),
    [(["--image-size", "65"], "a multiple of 32"), (["--score-threshold", "2"], "0 to 1")],
)
def test_setting_out_of_its_range(
    shared: Path,
    annotated: list[str],
    capsys: pytest.CaptureFixture[str],
    setting: list[str],
    reason: str,
) -> None:
    assert cli.main(["evaluate", "--model", str(shared / TINY), *annotated, *setting]) == 2
    assert reason in capsys.readouterr().err


def test_evaluate_without_the_model(
    cache: Path, annotated: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", "--model", "yolo11n-pose", *annotated]) == 1
    assert "pose-node fetch yolo11n-pose" in capsys.readouterr().err


def test_a_missing_torch_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(_: Path, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("pose_node.models.load_network", fail, raising=False)
    (tmp_path / "model.pt").touch()
    assert cli.main(["models", "info", str(tmp_path / "model.pt")]) == 1
    assert "the Python package torch is missing: `pip install" in capsys.readouterr().err


def test_info_of_an_exported_network(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shared / "fixtures/y7_w6_tiny_pose_grid.onnx"
    assert cli.main(["models", "info", "--json", str(path)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["strides"] == [8, 16, 32, 64]
    assert facts["input_size"] == [128, 128]
    assert facts["suppression"] == "needed"
    assert facts["keypoints"] == 17


def test_what_the_package_logs_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert cli.main(["models"]) == 0
    capsys.readouterr()
    logging.getLogger("pose_node.inference.backends").info("exporting %s", "a.pt")
    assert capsys.readouterr().err == "pose-node: exporting a.pt\n"
