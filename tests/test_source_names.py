from __future__ import annotations

import os

import pytest

from pose_node.errors import SourceError
from pose_node.source_names import shown_name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("photos/é.jpg", "photos/é.jpg"),
        ("rtsp://camera/stream@2:x", "rtsp://camera/stream@2:x"),
        ("rtsp://me@camera:554/1", "rtsp://me@camera:554/1"),
        ("rtsp://me:secret@camera:554/1", "rtsp://me:***@camera:554/1"),
        ("rtsp://me:p@ss:word@camera/a@b", "rtsp://me:***@camera/a@b"),
        ("rtsp://me@home.org:secret@camera/1", "rtsp://me@home.org:***@camera/1"),
        ("http://:secret@camera", "http://:***@camera"),
        ("http://camera/a.cgi?user=me&PWD=a/b&n=1", "http://camera/a.cgi?user=me&PWD=***&n=1"),
        (os.fsdecode(b"x\xe9.mp4"), r"x\udce9.mp4"),
    ],
)
def test_names_as_they_are_shown(name: str, shown: str) -> None:
    assert shown_name(name) == shown
    error = SourceError(f"{name} and {name} cannot be opened")
    assert str(error) == f"{shown} and {shown} cannot be opened"
