from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pose_node.errors import OutputError
from pose_node.poses import Poses
from pose_node.prediction import pictures
from pose_node.prediction.frames import RecordedFrame
from pose_node.prediction.pictures import AnnotatedPictures, VideoFile
from tests.prediction.conftest import TRIO, FakeRecording, make_recorded, people_in

MILLISECONDS = 1_000_000
NOBODY = Poses.empty(3)


def frames_of(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    found = []
    while True:
        read, image = capture.read()
        if not read:
            return found
        found.append(image)


def grey(value: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def test_images_keep_their_names_and_get_people(tmp_path: Path) -> None:
    output = AnnotatedPictures(tmp_path / "out", TRIO)
    for folder in ("one/photos", "two/photos"):  # two sources of the same name
        output.begin(FakeRecording([], name=folder, kind="images"))
        for name in ("a.jpg", "b.PNG", "c.xyz"):
            frame = make_recorded(9, source=f"{folder}/{name}", stamp_ns=None)
            output.write(frame, people_in(frame.image))
        output.end(complete=True)
    output.begin(FakeRecording([], name="single.png", kind="images"))
    output.write(make_recorded(9, source="single.png"), Poses.empty(3))
    output.end(complete=True)
    assert output.close() == [tmp_path / "out"]
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in tmp_path.rglob("*.*g"))
    assert found == [
        *("photos/a.jpg", "photos/b.png", "photos/c.png"),
        *("photos_2/a.jpg", "photos_2/b.png", "photos_2/c.png", "single.png"),
    ]
    drawn = cv2.imread(str(tmp_path / "out/photos/b.png"))
    plain = cv2.imread(str(tmp_path / "out/single.png"))
    assert drawn.shape == (24, 32, 3)
    assert (drawn != 90).any()
    assert (plain == 90).all()


def test_a_frame_in_rgb_becomes_bgr(tmp_path: Path) -> None:
    image = np.zeros((24, 32, 3), np.uint8)
    image[..., 0] = 200
    output = AnnotatedPictures(tmp_path, TRIO)
    output.begin(FakeRecording([], name="a.png", kind="images"))
    output.write(make_recorded(source="a.png", image=image, channel_order="rgb"), Poses.empty(3))
    assert cv2.imread(str(tmp_path / "a.png"))[0, 0].tolist() == [0, 0, 200]


@pytest.mark.parametrize("codec", ["vp8", "vp9"])
def test_a_video_for_each_topic(tmp_path: Path, codec: str) -> None:
    output = AnnotatedPictures(tmp_path, TRIO, codec=codec)
    output.begin(FakeRecording([], name="bags/walk", kind="bag"))
    for index in range(3):
        for topic in ("/front/image", "/rear/image"):
            output.write(make_recorded(index, topic=topic), Poses.empty(3))
    assert list(tmp_path.glob("[!.]*")) == []  # only when complete
    output.end(complete=True)
    files = output.close()
    assert files == [
        *(tmp_path / "walk_front_image.webm", tmp_path / "walk_rear_image.webm", tmp_path)
    ]
    pictures = frames_of(files[0])
    assert [round(picture.mean() / 10) for picture in pictures] == [0, 1, 2]
    assert files[0].read_bytes()[:4] == b"\x1aE\xdf\xa3"  # Matroska, of which WebM is a part
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in files[:2]}


def test_each_topic_has_a_rate_of_its_own(tmp_path: Path) -> None:
    """Whatever else the bag holds, and however long it is."""
    recording = FakeRecording([], name="walk", kind="bag")
    recording.fps = None
    output = AnnotatedPictures(tmp_path, TRIO)
    output.begin(recording)
    for index in range(20):
        output.write(make_recorded(index, topic="/fast", stamp_ns=index * 40_000_000), NOBODY)
        if index < 3:
            output.write(make_recorded(index, topic="/slow", stamp_ns=index * 500_000_000), NOBODY)
    output.end(complete=True)
    for topic, fps, count in (("fast", 25, 20), ("slow", 2, 3)):
        path = tmp_path / f"walk_{topic}.webm"
        assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=0.01)
        assert len(frames_of(path)) == count


@pytest.mark.parametrize(
    ("seconds", "fps"),
    [
        ([0, 0.1, 0.2, 5, 5.1], 10),  # a gap is no rate
        ([0, 0.04], 25),
        ([0, 20, 40], 1),
        ([0, 1e-6, 2e-6], 120),
        ([5, 5, 4], pictures.DEFAULT_FPS),
        ([5], pictures.DEFAULT_FPS),
    ],
)
def test_the_rate_of_times(seconds: list[float], fps: float) -> None:
    assert pictures.rate_of([round(1e9 * value) for value in seconds]) == pytest.approx(fps)


def test_a_video_runs_as_fast_as_its_source(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "v.webm", 10, "VP80")
    for value, at in ((20, 5000), (60, 5100), (100, 5400), (140, 5410), (180, 5500), (220, 99_500)):
        video.write(grey(value), at * MILLISECONDS)
    video.finish()
    shown = [round(picture.mean() / 20) * 20 for picture in frames_of(tmp_path / "v.webm")]
    # 60 stands for three tenths; 100 gives way to the one right after it; the gap is shortened.
    assert shown[:6] == [20, 60, 60, 60, 140, 180]
    assert shown.count(180) == 10 * pictures.LONGEST_GAP
    assert shown[-1] == 220


def test_frames_that_go_back_in_time_or_change_size(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "v.webm", 10, "VP80")
    for at, size in ((0, (48, 64)), (100, (96, 128)), (50, (48, 64)), (150, (31, 33))):
        video.write(grey(100, size), at * MILLISECONDS)
    video.finish()
    found = frames_of(tmp_path / "v.webm")
    assert len(found) >= 3
    assert {picture.shape for picture in found} == {(48, 64, 3)}


def test_an_unfinished_video_is_deleted(tmp_path: Path) -> None:
    output = AnnotatedPictures(tmp_path, TRIO)
    output.begin(FakeRecording([]))
    for index in range(3):
        output.write(make_recorded(index), Poses.empty(3))
    output.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_codec_that_is_not_there(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "v.webm", 10, "ZZZZ")
    video.write(grey(1), 0)
    with pytest.raises(OutputError, match=r"no encoder for ZZZZ of 64 x 48 pixels; .* vp8, vp9"):
        video.finish()
    video.abort()


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        AnnotatedPictures(tmp_path / "file", TRIO)
    output = AnnotatedPictures(tmp_path, TRIO)
    output.begin(FakeRecording([], name="a.jpg", kind="images"))
    huge = make_recorded(source="a.jpg", image=np.zeros((1, 70_000, 3), np.uint8))
    with pytest.raises(OutputError, match=r"cannot write .*a\.jpg"):
        output.write(huge, Poses.empty(3))


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "v.webm", 10, "VP80")
    video.write(grey(1), 0)
    video._repeat(1)
    (tmp_path / ".v.partial.webm").unlink()
    with pytest.raises(OutputError, match=r"cannot write .*v\.webm: No such file"):
        video.finish()


def test_begin_comes_first(tmp_path: Path) -> None:
    frame: RecordedFrame = make_recorded()
    with pytest.raises(AssertionError):
        AnnotatedPictures(tmp_path, TRIO).write(frame, Poses.empty(3))
