"""The command line of the camera process."""

from __future__ import annotations

from pathlib import Path

import pytest

from pose_node.ros.camera_options import CameraOptions, parse_options


def test_defaults() -> None:
    assert parse_options(["video.mp4"]) == CameraOptions(source="video.mp4")


def test_everything() -> None:
    text = (
        "0 --rate 12.5 --size 640x480 --transport both --once --count 7 --frame-id left "
        "--camera-info left.yaml --jpeg-quality 75 --reliability best_effort "
        "--wait-for camera_info --wait-for image"
    )
    assert parse_options(text.split()) == CameraOptions(
        source="0",
        rate=12.5,
        size=(640, 480),
        transport="both",
        loop=False,
        count=7,
        frame_id="left",
        camera_info=Path("left.yaml"),
        jpeg_quality=75,
        reliability="best_effort",
        wait_for=("camera_info", "image"),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "required: source"),
        ("v --rate 0", "more than 0"),
        ("v --rate nan", "more than 0"),
        ("v --rate fast", "invalid"),
        ("v --size 640", "such as 1280x720"),
        ("v --size 0x480", "such as 1280x720"),
        ("v --size 99999x99999", "such as 1280x720"),
        ("v --count 0", "at least 1"),
        ("v --jpeg-quality 101", "1 to 100"),
        ("v --loop --once", "not allowed with"),
        ("v --transport zstd", "invalid choice"),
        ("v --wait-for poses", "invalid choice"),
    ],
)
def test_refused(text: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_options(text.split())
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err
