from __future__ import annotations

import cv2
import numpy as np
import pytest

from pose_node.errors import OutputError
from pose_node.poses import Poses
from pose_node.prediction.window import Window
from tests.prediction.conftest import TRIO, FakeRecording, make_recorded


def test_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(OutputError, match="needs a display"):
        Window(TRIO)


def test_with_an_opencv_without_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: f"  GUI:{'':27}NONE\n")
    with pytest.raises(OutputError, match="this one is headless"):
        Window(TRIO)


def test_frames_are_shown_in_their_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[np.ndarray] = []
    closed: list[bool] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI: QT5\n")
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda milliseconds: -1)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: closed.append(True))
    image = np.zeros((24, 32, 3), np.uint8)
    image[..., 0] = 200
    window = Window(TRIO)
    window.begin(FakeRecording([]))
    window.write(make_recorded(image=image, channel_order="rgb"), Poses.empty(3))
    window.end(complete=True)
    assert window.close() == []
    window.abort()
    assert shown[0][0, 0].tolist() == [0, 0, 200]
    assert closed == [True, True]
