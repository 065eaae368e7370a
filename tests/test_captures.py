"""Names that OpenCV cannot take; what else it opens is in the tests of sources."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Five frames."""
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for index in range(5):
        writer.write(np.full((48, 64, 3), 40 * index, np.uint8))
    writer.release()
    return path


# In a process of its own: OpenCV ends the process at such a name.
def read_frames(path: bytes, loop: bool = False) -> list[str]:
    code = (
        "import os, sys, itertools\n"
        "from pose_node.errors import SourceError\n"
        "from pose_node.sources import open_source\n"
        f"path, loop = os.fsdecode({path!r}), {loop}\n"
        "try:\n"
        "    with open_source(path, loop=loop) as source:\n"
        "        print(source.name == path, len(list(itertools.islice(source, 25))))\n"
        "except SourceError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(("loop", "expected"), [(False, "5"), (True, "25")])
def test_a_video_whose_name_is_no_utf_8(
    video: Path, tmp_path: Path, loop: bool, expected: str
) -> None:
    path = os.fsencode(tmp_path) + b"/x\xe9.avi"
    os.rename(video, path)
    assert read_frames(path, loop) == ["True", expected]


def test_no_video_under_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/x\xe9.avi"
    Path(os.fsdecode(path)).write_bytes(b"no video")
    assert read_frames(path)[:1] == ["file"]
    assert "as a video by OpenCV" in " ".join(read_frames(path))
    assert "cannot be opened: No such file" in " ".join(read_frames(b"file:///nowhere\xe9"))
