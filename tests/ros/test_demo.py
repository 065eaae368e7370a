"""The demo: its options, its summary, and a short real run of three processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from pose_node import Poses
from pose_node.errors import PoseNodeError
from pose_node.models.fetch import cached_model_path
from pose_node.ros import demo
from pose_node.ros.demo import Pictures, Record, Seen, parse_options, summarise

pytestmark = pytest.mark.ros

REPOSITORY = Path(__file__).resolve().parents[2]
MILLISECOND = 1_000_000


def seen(number: int, *, age_ms: float, people: int = 1) -> Seen:
    """People of the image that was taken `number` tenths of a second after the first."""
    stamp_ns = 1_700_000_000_000_000_000 + number * 100 * MILLISECOND
    return Seen(stamp_ns, stamp_ns + round(age_ms * MILLISECOND), np.full(people, 0.5))


def jpeg(value: int) -> bytes:
    return cv2.imencode(".jpg", np.full((48, 64, 3), value, np.uint8))[1].tobytes()


def test_options() -> None:
    options = parse_options([])
    assert (options.source, options.model, options.device) == (None, "yolo11n-pose", "auto")
    assert (options.size, options.count, options.output) == ("1280x720", None, Path("demo"))
    given = "clip.mp4 --model other --device cpu --size 64x48 --count 7 --output /tmp/x"
    options = parse_options(given.split())
    assert (options.source, options.model, options.device) == ("clip.mp4", "other", "cpu")
    assert (options.size, options.count, options.output) == ("64x48", 7, Path("/tmp/x"))


@pytest.mark.parametrize("arguments", [["--count", "many"], ["--nonsense"], ["a.mp4", "b.mp4"]])
def test_wrong_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options(arguments)
    assert ended.value.code == 2
    assert "usage: pose-node demo" in capsys.readouterr().err


def test_people_in_words() -> None:
    boxes = [[10, 20, 30, 60], [0, 0, 4, 4]]
    poses = Poses.from_arrays(boxes, [0.876, 0.5], np.zeros((2, 17, 3)), np.array([3, -1]))
    assert demo.describe(poses) == "#3 0.88 at (20, 40), 0.50 at (2, 2)"
    assert demo.describe(Poses.empty(17)) == ""


def test_summary() -> None:
    record = Record(published=30)
    record.seen = [seen(number, age_ms=50 + number, people=number % 3) for number in range(11)]
    lines = summarise(record).splitlines()
    assert lines[0] == "summary"
    assert lines[1].split()[:5] == ["images", "30", "published,", "11", "processed;"]
    assert lines[2].split()[:4] == ["people", "0", "to", "2"]
    assert lines[2].endswith("mean 0.91")
    assert lines[3].split()[:2] == ["rate", "10.0"]
    assert " ".join(lines[4].split()).startswith("latency 55 ms p50, 60 ms p95, ")


def test_summary_of_one_image() -> None:
    record = Record(published=1, seen=[seen(0, age_ms=20, people=2)])
    text = summarise(record)
    assert "2 to 2" in text
    assert "rate         - " in text
    assert "20 ms p50, 20 ms p95" in text


@pytest.fixture
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pictures]:
    with Pictures(tmp_path_factory.mktemp("pictures")) as made:
        yield made


def test_pictures_are_kept_in_a_file_without_a_name(tmp_path: Path) -> None:
    with Pictures(tmp_path) as pictures:
        for stamp, content in ((7, b"seven"), (3, b"three"), (5, b"")):
            pictures.put(stamp, content)
        assert pictures.stamps() == [3, 5, 7]
        assert [pictures[stamp] for stamp in (3, 5, 7)] == [b"three", b"", b"seven"]
        assert list(tmp_path.iterdir()) == []


def test_pictures(pictures: Pictures, tmp_path: Path) -> None:
    record = Record(published=3, seen=[seen(0, age_ms=9), seen(1, age_ms=9, people=4)])
    for number, item in enumerate(record.seen, 1):
        pictures.put(item.stamp_ns, jpeg(60 * number))
    assert demo._report(record, pictures, tmp_path) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotated.jpg", "annotated.mp4"]
    best = cv2.imread(str(tmp_path / "annotated.jpg"))
    assert abs(float(best.mean()) - 120) < 3
    video = cv2.VideoCapture(str(tmp_path / "annotated.mp4"))
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (2, 10)


def test_nothing_seen_is_a_failure(
    pictures: Pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo._report(Record(), pictures, tmp_path) == 1
    assert capsys.readouterr().err == "pose-node demo: error: the node published no poses\n"
    assert list(tmp_path.iterdir()) == []


def test_no_pictures_is_an_error(pictures: Pictures, tmp_path: Path) -> None:
    with pytest.raises(PoseNodeError, match=r"^the node published no annotated images$"):
        demo._report(Record(seen=[seen(0, age_ms=1)]), pictures, tmp_path)


def test_a_picture_that_is_none_is_an_error(pictures: Pictures, tmp_path: Path) -> None:
    pictures.put(1, b"no picture")
    with pytest.raises(PoseNodeError, match=r"that is no JPEG$"):
        demo._report(Record(seen=[seen(0, age_ms=1)]), pictures, tmp_path)


def test_without_the_sample_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert demo.main(["--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == (
        "pose-node demo: error: the sample video is not there yet: "
        "run `pose-node fetch sample-video`\n"
    )


def test_without_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert demo.main(["any.mp4", "--output", str(tmp_path / "out")]) == 1
    assert "pose-node fetch yolo11n-pose" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert demo.main(["any.mp4", "--output", str(tmp_path / "file" / "out")]) == 1
    assert "cannot write to" in capsys.readouterr().err


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The demo as a process."""
    return subprocess.run(
        [sys.executable, "-m", "pose_node.ros.entry", "demo", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
def test_real_run(tmp_path: Path, yolo11n_pose: Path) -> None:
    video = cached_model_path("sample-video")
    if not video.is_file():
        pytest.skip("sample video missing: run `pose-node fetch sample-video`")
    ended = run("--count", 20, "--output", tmp_path / "out")
    assert ended.returncode == 0, ended.stderr
    counted = re.search(r"images +(\d+) published, (\d+) processed", ended.stdout)
    assert counted is not None
    # The last one waits for nobody to be faster, so it is always processed.
    assert int(counted[1]) == 20
    assert 1 <= int(counted[2]) <= 20
    assert re.search(r"people +0 to [1-9]|people +[1-9]", ended.stdout)
    picture = cv2.imread(str(tmp_path / "out/annotated.jpg"))
    assert picture.shape == (720, 1280, 3)
    written = cv2.VideoCapture(str(tmp_path / "out/annotated.mp4"))
    assert 1 <= written.get(cv2.CAP_PROP_FRAME_COUNT) <= int(counted[2])
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_video_that_is_none_ends_it_with_a_reason(tmp_path: Path, yolo11n_pose: Path) -> None:
    (tmp_path / "no.mp4").write_text("no video")
    ended = run(tmp_path / "no.mp4", "--model", yolo11n_pose, "--output", tmp_path / "out")
    assert ended.returncode == 1
    assert "no.mp4" in ended.stderr
    assert "pose-node demo: error: the camera process ended with code 1" in ended.stderr
    assert "Traceback" not in ended.stderr
