"""Frames from videos, images, folders and webcams, and what is said when there are none."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose_node import captures, sources
from pose_node.errors import SourceError
from pose_node.sources import SourceFrame, open_source

WIDTH, HEIGHT, FRAMES = 64, 48, 5


def brightness(frame: SourceFrame) -> int:
    return round(float(frame.image.mean()))


class Delegate:
    """A capture of OpenCV that counts, to be changed in parts."""

    def __init__(self, path: str) -> None:
        self.capture = cv2.VideoCapture(path)
        self.grabbed = 0

    def grab(self) -> bool:
        self.grabbed += 1
        return self.capture.grab()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.capture, name)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Five grey frames, 10 a second, of brightness 0, 40, 80, 120, 160."""
    return write_video(tmp_path / "video.avi", FRAMES)


def write_video(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    for index in range(frames):
        writer.write(np.full((HEIGHT, WIDTH, 3), 40 * index % 256, np.uint8))
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images b (brightness 100) and a (50), a text, and a folder with the name of an image."""
    path = tmp_path / "images"
    (path / "folder.png").mkdir(parents=True)
    for name, value in (("b.png", 100), ("a.PNG", 50)):
        content = cv2.imencode(".png", np.full((HEIGHT, WIDTH, 3), value, np.uint8))[1]
        (path / name).write_bytes(content.tobytes())
    (path / "notes.txt").write_text("no image")
    return path


def test_video_once(video: Path) -> None:
    with open_source(str(video)) as source:
        assert (source.kind, source.fps, source.frame_count) == ("video", 10, FRAMES)
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert [frame.timestamp_s for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [brightness(frame) for frame in frames] == pytest.approx([0, 40, 80, 120, 160], abs=3)
    assert frames[0].image.shape == (HEIGHT, WIDTH, 3)
    assert frames[0].source_size == (WIDTH, HEIGHT)
    assert frames[0].name == str(video)


def test_video_in_a_loop(video: Path) -> None:
    with open_source(str(video), loop=True) as source:
        frames = [frame for frame, _ in zip(source, range(2 * FRAMES + 1), strict=False)]
    assert [frame.index for frame in frames] == list(range(2 * FRAMES + 1))
    assert brightness(frames[FRAMES]) == pytest.approx(0, abs=3)
    assert brightness(frames[2 * FRAMES - 1]) == pytest.approx(160, abs=3)
    assert frames[FRAMES].timestamp_s == frames[0].timestamp_s == 0


@pytest.mark.parametrize("size", [(32, 24), (200, 30), (WIDTH, HEIGHT)])
def test_size(video: Path, size: tuple[int, int]) -> None:
    with open_source(str(video), size=size) as source:
        frame = next(iter(source))
    assert frame.image.shape == (size[1], size[0], 3)
    assert frame.source_size == (WIDTH, HEIGHT)


def test_folder_in_order_of_names(folder: Path) -> None:
    with open_source(str(folder)) as source:
        frames = list(source)
        assert (source.kind, source.fps, source.frame_count) == ("images", None, 2)
    assert [Path(frame.name).name for frame in frames] == ["a.PNG", "b.png"]
    assert [brightness(frame) for frame in frames] == [50, 100]
    assert [frame.index for frame in frames] == [0, 1]


def test_pattern(folder: Path) -> None:
    with open_source(str(folder / "b*")) as source:
        assert [brightness(frame) for frame in source] == [100]
    with open_source(str(folder.parent / "**" / "*.PNG")) as source:
        assert [brightness(frame) for frame in source] == [50]


def test_one_image_in_a_loop(folder: Path) -> None:
    with open_source(str(folder / "b.png"), loop=True) as source:
        frames = [frame for frame, _ in zip(source, range(3), strict=False)]
    assert [(frame.index, brightness(frame)) for frame in frames] == [(0, 100), (1, 100), (2, 100)]


def test_file_whose_name_looks_like_a_pattern(folder: Path) -> None:
    odd = folder / "[a].png"
    odd.write_bytes((folder / "b.png").read_bytes())
    with open_source(str(odd)) as source:
        assert len(list(source)) == 1


def test_unreadable_image_in_a_folder_is_skipped(folder: Path) -> None:
    (folder / "aa.jpg").write_bytes(b"nonsense")
    told: list[str] = []
    with open_source(str(folder), on_warning=told.append) as source:
        assert [brightness(frame) for frame in source] == [50, 100]
    assert len(told) == 1
    assert "aa.jpg" in told[0]
    assert "no image format" in told[0]


def test_warning_without_a_listener(folder: Path) -> None:
    (folder / "aa.jpg").write_bytes(b"nonsense")
    with open_source(str(folder)) as source, pytest.warns(UserWarning, match=r"skipped .*aa.jpg"):
        list(source)


def test_video_that_ends_early(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    with open_source(str(video), on_warning=told.append) as source:
        source.frame_count = 50
        list(source)
    assert told == [f"{video} ended after 5 of 50 frames, it may be damaged"]


def test_a_frame_that_cannot_be_decoded_is_told_wherever_it_is(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Damaged(Delegate):
        def retrieve(self) -> Any:
            return (False, None) if self.grabbed == FRAMES else self.capture.retrieve()

    monkeypatch.setattr(sources, "open_video", lambda text, what: Damaged(text))
    told: list[str] = []
    with open_source(str(video), on_warning=told.append) as source:
        frames = list(source)
    assert len(frames) == FRAMES - 1
    assert told == [f"{video} ended after 4 of 5 frames, it may be damaged"]
    with open_source(str(video), on_warning=told.append) as source:
        source.frame_count = None
        list(source)
    assert told[1] == f"{video} ended after 4 frames, it may be damaged"


def test_the_last_frame_of_a_file_that_is_cut_off_is_missed(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.avi", 30)
    content = video.read_bytes()
    video.write_bytes(content[: content.rindex(b"00dc", 0, content.index(b"idx1")) + 20])
    told: list[str] = []
    with open_source(str(video), on_warning=told.append) as source:
        frames = list(source)
    assert 27 < len(frames) < 30
    assert told == [f"{video} ended after {len(frames)} of 30 frames, it may be damaged"]


def test_a_clip_that_was_trimmed_is_not_damaged_and_one_that_is_cut_off_is(
    shared: Path, tmp_path: Path
) -> None:
    content = bytearray((shared / "data/videos/juggle.mp4").read_bytes())
    cut, trimmed = tmp_path / "cut.mp4", tmp_path / "trimmed.mp4"
    cut.write_bytes(content[: -len(content) // 40])
    # The edit list: an entry of duration and first time, in units of the film and of the medium.
    entry = content.index(b"elst") + 12
    duration, start = struct.unpack_from(">Ii", content, entry)
    struct.pack_into(">Ii", content, entry, round(0.95 * duration), start + 6000)
    trimmed.write_bytes(content)
    told: list[str] = []
    for path in (trimmed, cut):
        with open_source(str(path), on_warning=told.append, choose=lambda *_: False) as source:
            list(source)
    assert len(told) == 1
    assert told[0].startswith(f"{cut} ended after 23")  # more than nine tenths
    assert "of 247 frames" in told[0]


def test_nothing_readable_in_a_loop_ends(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"nonsense")
    told: list[str] = []
    with (
        open_source(str(tmp_path), loop=True, on_warning=told.append) as source,
        pytest.raises(SourceError, match="none of its frames can be decoded"),
    ):
        list(source)
    assert len(told) == 2


def test_unreadable_only_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"")
    with open_source(str(path)) as source, pytest.raises(SourceError, match=r"a\.jpg.*without"):
        list(source)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.mp4", "does not exist"),
        ("empty", "holds no images"),
        ("*.jpg", "pattern .* holds no images"),
        ("text.mp4", "cannot be opened as a video"),
        ("empty.mp4", "cannot be opened as a video"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(SourceError, match=reason) as caught:
        open_source(str(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)


def test_stream_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="stream file:///nowhere"):
        open_source("file:///nowhere")


class FakeCapture:
    """Stands in for cv2.VideoCapture of a webcam that gives two frames, the first one grey."""

    opened = True

    def __init__(self, index: int) -> None:
        self.index = index
        self.asked: dict[int, float] = {}
        self.frames = [np.zeros((4, 6), np.uint8), np.ones((4, 6, 3), np.uint8)]

    def isOpened(self) -> Any:
        return self.opened

    def set(self, key: Any, value: Any) -> Any:
        self.asked[key] = value

    def get(self, key: Any) -> Any:
        return {cv2.CAP_PROP_FPS: 30, cv2.CAP_PROP_FRAME_COUNT: -1}.get(key, float("nan"))

    def grab(self) -> Any:
        return bool(self.frames)

    def retrieve(self) -> Any:
        return True, self.frames.pop(0)

    def release(self) -> Any:
        self.opened = False


@pytest.fixture
def webcam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "video3").touch()
    monkeypatch.setattr(captures, "_DEVICES", tmp_path)
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)


@pytest.mark.parametrize("name", ["3", "/dev/video3"])
@pytest.mark.usefixtures("webcam")
def test_webcam(name: str) -> None:
    source = open_source(name, size=(12, 8), fps=15, loop=True)
    assert (source.kind, source.fps, source.frame_count) == ("live", 30, None)
    capture: Any = source._capture
    assert capture.index == 3
    assert capture.asked == {
        cv2.CAP_PROP_FRAME_WIDTH: 12,
        cv2.CAP_PROP_FRAME_HEIGHT: 8,
        cv2.CAP_PROP_FPS: 15,
        cv2.CAP_PROP_BUFFERSIZE: 1,
    }
    frames: list[SourceFrame] = []
    with pytest.raises(SourceError, match="stopped delivering after 2 frames"):
        frames.extend(iter(source))
    source.close()
    assert not capture.isOpened()


@pytest.mark.usefixtures("webcam")
def test_webcam_frames() -> None:
    frames = iter(open_source("3"))
    first, second = next(frames), next(frames)
    assert first.image.shape == second.image.shape == (4, 6, 3)
    assert second.timestamp_s == pytest.approx(1 / 30)


@pytest.mark.usefixtures("webcam")
def test_a_webcam_of_which_enough_came_ends_well() -> None:
    source = open_source("3", choose=lambda index, seconds: None if index == 1 else True)
    assert len(list(source)) == 1
    breaks_off = open_source("3", choose=lambda index, seconds: None if index == 3 else True)
    with pytest.raises(SourceError, match="stopped delivering after 2 frames"):
        list(breaks_off)


@pytest.mark.usefixtures("webcam")
def test_seconds_of_a_webcam_count_from_its_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    def since_the_machine_was_started(capture: Any, key: Any) -> Any:
        known = {cv2.CAP_PROP_POS_MSEC: 9_000_000 - 33.0 * len(capture.frames)}
        return known.get(key, float("nan"))

    monkeypatch.setattr(FakeCapture, "get", since_the_machine_was_started)
    asked: list[float] = []
    source = open_source("3", choose=lambda index, seconds: asked.append(seconds) is None)
    with pytest.raises(SourceError, match="stopped delivering"):
        list(source)
    assert asked == pytest.approx([0, 0.033], abs=1e-6)


@pytest.mark.parametrize("name", ["0", "/dev/video7", "/dev/videox"])
@pytest.mark.usefixtures("webcam")
def test_webcam_that_is_not_there(name: str) -> None:
    with pytest.raises(SourceError, match=r"there is no webcam .*; found: .*video3"):
        open_source(name)


@pytest.mark.usefixtures("webcam")
def test_webcam_that_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCapture, "opened", False)
    with pytest.raises(SourceError, match="another program may be using it"):
        open_source("3")


def test_real_video(shared: Any) -> None:
    with open_source(str(shared / "data/videos/squats.mp4"), size=(180, 320)) as source:
        assert source.fps == 5
        frames = list(source)
    assert len(frames) == source.frame_count == 65
    assert frames[-1].timestamp_s == pytest.approx(64 / 5)
    assert {frame.image.shape for frame in frames} == {(320, 180, 3)}


def test_real_folder_with_broken_images(shared: Any) -> None:
    told: list[str] = []
    with open_source(str(shared / "data/odd"), on_warning=told.append) as source:
        frames = {Path(frame.name).name: frame.image.shape for frame in source}
    assert sorted(text.split(":")[0].rsplit("/")[-1] for text in told) == [
        "785_truncated_half.jpg",
        "empty.jpg",
        "text_not_image.jpg",
    ]
    assert frames["785_exif_orientation_6.jpg"] == (425, 640, 3)
    assert len(frames) == 10


# --- Chosen frames --------------------------------------------------------------------------------


def test_only_chosen_frames_are_given_with_their_own_index(video: Path) -> None:
    asked = []

    def every_second_up_to_the_fourth(index: int, seconds: float) -> bool | None:
        asked.append((index, round(seconds, 3)))
        return None if index == 4 else index % 2 == 0

    with open_source(str(video), choose=every_second_up_to_the_fourth) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == [0, 2]
    assert brightness(frames[1]) == pytest.approx(80, abs=2)
    assert asked == [(0, 0), (1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]


def test_times_of_a_gif_are_its_own(tmp_path: Path) -> None:
    # Two frames of one pixel, 100 and 300 ms, as GIF89a says.
    frame = "21f904 00 {delay} 0000 2c 0000 0000 0100 0100 00 02 02 4401 00 "
    content = "474946383961 0100 0100 80 00 00 000000 ffffff " + "".join(
        frame.format(delay=delay) for delay in ("0a00", "1e00", "0a00")
    )
    path = tmp_path / "two.gif"
    path.write_bytes(bytes.fromhex(content + "3b"))
    with open_source(str(path)) as source:
        times = [frame.timestamp_s for frame in source]
    assert times == pytest.approx([0, 0.1, 0.4])


def test_the_last_frames_of_a_video_have_times_too(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV 4.6 says 0 for the frames that the decoder gives only at the end."""

    class Forgetful(Delegate):
        def get(self, what: int) -> float:
            known = what != cv2.CAP_PROP_POS_MSEC or self.grabbed < FRAMES - 1
            return self.capture.get(what) if known else 0.0

    monkeypatch.setattr(sources, "open_video", lambda text, what: Forgetful(text))
    with open_source(str(video)) as source:
        times = [frame.timestamp_s for frame in source]
    assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_a_file_on_a_web_server_is_read_to_its_end(video: Path) -> None:
    with open_source(f"file://{video}") as source:
        assert (source.kind, source.frame_count) == ("video", FRAMES)
        assert len(list(source)) == FRAMES


def test_a_folder_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(SourceError, match=r"cannot be read: Permission denied"):
        open_source(str(folder))
