"""``pose-node export``: what it writes by default, prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose_node import cli, export_command
from pose_node.export import UNKNOWN_LICENCE
from pose_node.exporting.writers import FORMATS

TINY = "fixtures/ul_yolo11_tiny_pose.pt"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a picture in it and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    cv2.imwrite("picture.png", np.full((64, 96, 3), 114, np.uint8))
    return folder


ARGUMENTS = ("--format", "torchscript", "--image-size", "64", "96", "--check-image", "picture.png")


def test_writes_checks_and_says_so(
    shared: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export_command, "_SEEN", 1.1)  # more than any score
    model = str(shared / TINY)
    assert cli.main(["export", model, *ARGUMENTS]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("ul_yolo11_tiny_pose.torchscript: torchscript, layout ultralytics")
    assert "checked on picture.png at 96 x 64: " in printed
    assert "predictions differ from torch (float32) by at most 0 pixels and 0 in scores" in printed
    assert "sees nobody in that picture" in printed
    assert "The weights keep their own licence" in printed
    assert (folder / "ul_yolo11_tiny_pose.torchscript").is_file()

    assert cli.main(["export", model, *ARGUMENTS]) == 1
    assert "is there already; --force replaces it" in capsys.readouterr().err
    assert cli.main(["export", model, "--output", "none/model.onnx"]) == 1
    assert "there is no folder none; make it" in capsys.readouterr().err
    assert cli.main(["export", model, *ARGUMENTS, "--force", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["format"], facts["check_image"]) == ("torchscript", "picture.png")
    assert facts["pixels"] == 0
    assert facts["sizes"] == [[96, 64]]


def test_arguments_reach_the_exporter(
    shared: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def export_network(network: Any, path: Path, **arguments: Any) -> Any:
        seen.update(arguments, path=path, network=network)
        raise KeyboardInterrupt

    monkeypatch.setattr("pose_node.export.export_network", export_network)
    command = ["export", str(shared / TINY), "--output", "tiny.xml", "--image-size", "320"]
    command += ["--batch", "2", "--dynamic", "--opset", "16", "--tolerance", "0.01"]
    assert cli.main([*command, "--check-image", "picture.png"]) == 130
    assert seen["path"] == Path("tiny.xml")
    assert seen["check_image"].shape == (64, 96, 3)
    expected = {
        "format_name": "openvino",
        "image_size": (320, 320),
        "batch": 2,
        "dynamic": True,
        "opset": 16,
        "pixel_tolerance": 0.01,
        "name": "ul_yolo11_tiny_pose",
        "licence": UNKNOWN_LICENCE,
    }
    assert {name: seen[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--image-size", "1", "2", "3"], "--image-size takes a side, or height and width"),
        (["--output", "model.pt"], "--output model.pt names no format"),
        (["--image-size", "100"], "image_size must be a height and a width in multiples of 32"),
        (["--batch", "0"], "expected at least 1, got 0"),
    ],
)
def test_wrong_command_lines(
    shared: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    text: str,
) -> None:
    command = ["export", str(shared / TINY), "--check-image", "picture.png", *arguments]
    assert cli.main(command) == 2
    assert text in capsys.readouterr().err


def test_a_picture_is_needed(
    shared: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(shared / TINY)]) == 1
    assert "name one of people with --check-image, or run `pose-node" in capsys.readouterr().err
    assert cli.main(["export", str(shared / TINY), "--check-image", "none.png"]) == 1
    assert "none.png does not exist" in capsys.readouterr().err


def test_the_formats_are_those_that_can_be_written() -> None:
    assert {name: form.suffix for name, form in FORMATS.items()} == export_command._SUFFIXES


def test_8_bits_are_for_openvino(
    shared: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(shared / TINY), "--format", "onnx", "--int8", "x.png"]) == 2
    assert "--int8 is for --format openvino, got onnx" in capsys.readouterr().err
