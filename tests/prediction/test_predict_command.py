"""`pose-node predict`: its files, exit codes, and what is left after an interruption."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose_node import cli
from pose_node.errors import OutputError
from pose_node.poses import Poses
from pose_node.prediction import folder
from pose_node.prediction.bags import BagRecording
from pose_node.prediction.frames import RecordedFrame, Selection
from pose_node.prediction.outputs import JsonLines
from pose_node.prediction.writer import ResultWriter
from tests.prediction.conftest import FakeCapture, write_bag


@pytest.fixture
def arguments(shared: Path, tmp_path: Path) -> list[str]:
    """A small model that finds a person in nearly everything, and a folder for its results."""
    model = str(shared / "fixtures/ul_yolo11_tiny_pose.pt")
    settings = ["--device", "cpu", "--image-size", "64", "--score-threshold", "0.001"]
    return ["--model", model, *settings, "--max-people", "3", "--output", str(tmp_path / "out")]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "poses.jsonl").read_text().splitlines()]


def test_everything_at_once(
    images: Path,
    video: Path,
    tmp_path: Path,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    bag = write_bag(tmp_path / "walk")
    sources = [str(images), str(video), str(bag), "nowhere.mp4"]
    sources += [f"{images}/../images", str(images / "001.png"), f"{bag}/*"]  # nothing new
    formats = ["jsonl", "csv", "coco", "annotated", "bag"]
    assert cli.main(["predict", *sources, *arguments, "--save", *formats]) == 1
    out = tmp_path / "out"
    found = lines(out)
    assert [line["frame"] for line in found] == [*range(3), *range(10), *range(5)]
    assert [line["source"] for line in found[:4]] == [
        *(str(images / f"00{number}.png") for number in (1, 2, 3)),
        str(video),
    ]
    assert all(len(person["keypoints"]) == 17 for line in found for person in line["people"])
    people = sum(len(line["people"]) for line in found)
    assert people > 0
    with (out / "poses.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == people + 1
    assert len(json.loads((out / "coco_results.json").read_text())) == people
    assert (out / "annotated/video.webm").is_file()
    assert len(list((out / "annotated/images").iterdir())) == 3
    assert {path.name for path in (out / "bags").iterdir()} == {"images", "video", "walk"}
    summary = json.loads((out / "run.json").read_text())
    assert (summary["complete"], summary["frames"]) == (True, 18)
    failed = [failure["source"] for failure in summary["failures"]]
    assert failed == [str(images / "004.png"), "nowhere.mp4"]
    assert "annotated/video.webm" in summary["files"]
    assert summary["skeleton"]["keypoint_names"][0] == "nose"
    assert not [path for path in out.rglob(".*")]  # nothing hidden is left
    captured = capsys.readouterr()
    assert "could not read nowhere.mp4: " in captured.err
    assert "18 images, " in captured.out
    assert "2 failures" in captured.out


@pytest.mark.parametrize("ray", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_names_that_are_no_utf_8(
    images: Path, video: Path, tmp_path: Path, arguments: list[str], ray: bool
) -> None:
    """In a process of its own: such a name ends OpenCV."""
    if ray:
        pytest.importorskip("ray", reason="Ray is missing")
    odd = os.fsdecode(b"x\xe9")
    (images / "002.png").rename(images / f"{odd}.png")
    write_bag(tmp_path / odd)
    video.rename(tmp_path / f"{odd}.avi")
    out = tmp_path / "out"
    formats = ["jsonl", "csv", "coco", "parquet", *([] if ray else ["annotated", "bag"])]
    command = [sys.executable, "-m", "pose_node", "predict", str(images), str(tmp_path)]
    command += [*arguments, "--save", *formats, *(["--ray"] if ray else [])]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 1, done.stderr  # 004.png is no image
    names = {line["source"] for line in lines(out)}
    shown = rf"{images}/x\udce9.png", rf"{tmp_path}/x\udce9", rf"{tmp_path}/x\udce9.avi"
    assert names == {f"{images}/001.png", f"{images}/003.png", *shown}
    with (out / "poses.csv").open(newline="", encoding="utf-8") as file:
        assert {row["source"] for row in csv.DictReader(file)} <= names
    entries = json.loads((out / "coco_results_images.json").read_text())
    assert {entry["file_name"] for entry in entries} == names
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is missing")
    assert set(parquet.read_table(out / "poses.parquet")["source"].to_pylist()) == names
    summary = json.loads((out / "run.json").read_text())
    assert summary["settings"]["sources"] == [str(images), *shown[1:]]
    assert len(summary["failures"]) == 1
    if not ray:
        assert (out / "annotated/images/x\\udce9.png").is_file()
        assert (out / "annotated/x_2.webm").is_file()
        assert (out / "bags/x/metadata.yaml").is_file()


def test_a_folder_for_videos_whose_name_is_no_utf_8(
    video: Path, tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / os.fsdecode(b"x\xe9"))
    command = ["predict", str(video), *arguments, "--output", out, "--save"]
    assert cli.main([*command, "annotated"]) == 1
    assert "OpenCV writes videos only where" in capsys.readouterr().err
    pytest.importorskip("pyarrow", reason="pyarrow is missing")
    assert cli.main([*command, "jsonl", "parquet", "bag"]) == 0
    assert "x\\udce9" in capsys.readouterr().out


def test_passwords_of_addresses_are_told_to_nobody(
    video: Path, tmp_path: Path, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither by us nor by OpenCV, which writes to the process's own standard error."""
    command = ["predict", "rtsp://me:secret@localhost:9/stream", str(video), *arguments]
    assert cli.main(command) == 1
    captured = capfd.readouterr()
    assert "could not read rtsp://me:***@localhost:9/stream: " in captured.err
    written = (tmp_path / "out/run.json").read_text()
    assert json.loads(written)["settings"]["sources"][0] == "rtsp://me:***@localhost:9/stream"
    assert cli.main([*command, "--force", "--save", "bag", "--copy-bag"]) == 1
    assert "rtsp://me:***@localhost:9/stream is none" in (refused := capfd.readouterr()).err
    assert "secret" not in captured.err + captured.out + written + refused.err


def test_success_ranges_and_batches(video: Path, tmp_path: Path, arguments: list[str]) -> None:
    selected = ["--range", "0.2s:0.9s", "--every", "3", "--batch-size", "2"]
    assert cli.main(["predict", str(video), *arguments, *selected]) == 0
    assert [line["frame"] for line in lines(tmp_path / "out")] == [3, 6]


@pytest.mark.slow
def test_people_of_a_real_video_keep_their_ids(
    shared: Path, yolo11n_pose: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    sources = [str(shared / "data/videos/squats.mp4"), str(shared / "data/odd/785_gray.jpg")]
    command = ["predict", *sources, "--model", str(yolo11n_pose), "--device", "cpu"]
    assert cli.main([*command, "--output", str(out), "--track", "--range", ":15"]) == 0
    *frames, image = lines(out)
    ids = [person["id"] for frame in frames for person in frame["people"]]
    assert max(set(ids), key=ids.count) == 1
    assert ids.count(1) >= 12
    assert {person["id"] for person in image["people"]} == {-1}
    assert all(person["score"] > 0.3 for person in image["people"])


def test_results_are_not_overwritten_unasked(
    video: Path, tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(video), *arguments]
    assert cli.main(command) == 0
    before = (tmp_path / "out/poses.jsonl").read_bytes()
    assert cli.main(command) == 1
    assert "--resume continues it, --force replaces it" in capsys.readouterr().err
    assert cli.main([*command, "--resume"]) == 0
    assert "the run is complete" in capsys.readouterr().out
    assert cli.main([*command, "--force", "--range", ":3"]) == 0
    assert before.startswith((tmp_path / "out/poses.jsonl").read_bytes())
    assert len(lines(tmp_path / "out")) == 3


def test_a_complete_run_with_failures_stays_one(
    images: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(images), *arguments]
    assert cli.main(command) == 1
    assert cli.main([*command, "--resume"]) == 1
    assert "1 failures; --force runs it anew" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "code", "reason"),
    [
        (["--range", "5"], 2, "expected a range of frames"),
        (["--every", "0"], 2, "expected at least 1"),
        (["--save", "png"], 2, "invalid choice"),
        (["--force", "--resume"], 2, "argument --resume: not allowed with argument --force"),
        (["--image-size", "65"], 2, "a multiple of 32"),
        (["--model", "nothing"], 1, "nothing"),
        (["--save", "bag", "--copy-bag"], 1, "only bags can be copied"),
        (["--copy-bag"], 2, "argument --copy-bag: needs --save bag"),
        (["--save", "csv", "--bag-storage", "mcap"], 2, "argument --bag-storage: needs --save bag"),
        (["--codec", "vp9"], 2, "argument --codec: needs --save annotated"),
        (["--keypoint-threshold", "0.1"], 2, "needs --save annotated, --rerun or --show"),
    ],
)
def test_what_cannot_be_done(
    video: Path,
    tmp_path: Path,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    code: int,
    reason: str,
) -> None:
    assert cli.main(["predict", str(video), *arguments, *extra]) == code
    assert reason in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("poses*"))


def test_what_a_camera_saw_before_the_disk_was_full_is_written_by_resuming(
    webcam: type[FakeCapture],
    tmp_path: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["predict", "3", *arguments]
    with monkeypatch.context() as patch:

        def write(output: JsonLines, frame: RecordedFrame, poses: Poses) -> None:
            webcam.allowed.release()
            if frame.index == 3:
                raise OutputError("No space left on device")

        patch.setattr(JsonLines, "write", write)
        assert cli.main(command) == 1
    assert not (tmp_path / "out/poses.jsonl").exists()
    known = len((tmp_path / "out/.journal.jsonl").read_text().splitlines()) - 1
    assert known in (4, 5)
    capsys.readouterr()
    assert cli.main([*command, "--resume", "--save", "jsonl", "annotated"]) == 1
    assert "--save annotated needs the images of 3, which is live" in capsys.readouterr().err
    assert cli.main([*command, "--resume", "--save", "jsonl", "csv", "bag"]) == 0
    assert f"{known} images ({known} from the run before)" in capsys.readouterr().out
    found = lines(tmp_path / "out")
    assert [line["frame"] for line in found] == list(range(known))
    assert found[0]["stamp_ns"] < found[3]["stamp_ns"]
    assert (found[0]["width"], found[0]["height"]) == (32, 24)
    assert any(line["people"] for line in found)
    assert webcam.opened == 1
    summary = json.loads((tmp_path / "out/run.json").read_text())
    assert (summary["complete"], summary["frames"], summary["failures"]) == (True, known, [])


def test_that_a_camera_broke_off_is_still_told_after_resuming(
    webcam: type[FakeCapture],
    images: Path,
    tmp_path: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    webcam.allowed.release(9)
    image = str(images / "001.png")
    command = ["predict", "3", image, *arguments]
    with monkeypatch.context() as patch:

        def write(output: JsonLines, frame: RecordedFrame, poses: Poses) -> None:
            if frame.source == image:
                raise OutputError("No space left on device")

        patch.setattr(JsonLines, "write", write)
        assert cli.main(command) == 1
    assert cli.main([*command, "--resume"]) == 1
    assert webcam.opened == 1
    assert [line["source"] for line in lines(tmp_path / "out")][-2:] == ["3", image]
    (failure,) = json.loads((tmp_path / "out/run.json").read_text())["failures"]
    assert (failure["source"], failure["reason"]) == ("3", "3 stopped delivering after 5 frames")


@pytest.mark.parametrize(
    ("text", "code", "possible"),
    [(":3", 0, {0, 1, 2}), ("0.1s:0.25s", 0, {1, 2}), (":9", 1, {0, 1, 2, 3, 4})],
)
def test_a_range_of_a_camera(
    webcam: type[FakeCapture],
    tmp_path: Path,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    text: str,
    code: int,
    possible: set[int],
) -> None:
    webcam.uptime_ms = 9e6
    webcam.allowed.release(9)
    assert cli.main(["predict", "3", *arguments, "--range", text]) == code
    found = {line["frame"] for line in lines(tmp_path / "out")}  # frames that are late are left out
    assert found
    assert found <= possible
    assert ("3 stopped delivering after 5 frames" in capsys.readouterr().err) == (code == 1)


def test_a_video_on_a_server_is_read_on(
    video: Path,
    tmp_path: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["predict", f"file://{video}", *arguments]

    def write(output: JsonLines, frame: RecordedFrame, poses: Poses) -> None:
        raise OutputError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "write", write)
        assert cli.main(command) == 1
    journal = tmp_path / "out/.journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]))
    assert cli.main([*command, "--resume", "--save", "jsonl", "annotated"]) == 0
    assert "10 images (1 from the run before)" in capsys.readouterr().out


def test_a_camera_that_had_not_begun_is_opened_by_resuming(
    webcam: type[FakeCapture],
    video: Path,
    tmp_path: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["predict", "nowhere.mp4", "3", *arguments]

    def fail(*_: object, **__: object) -> None:
        raise OutputError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ResultWriter, "begin", fail)
        assert cli.main(command) == 1
    webcam.allowed.release(9)
    assert cli.main([*command, "--resume"]) == 1
    assert webcam.opened == 2
    assert lines(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["--save", "csv"], "(save: ['jsonl'], now ['csv'])"),
        (["--track"], "track: False, now True"),
        (["--max-people", "2"], "max_people: 3, now 2"),
        (["--range", ":3"], "range: ':', now ':3'"),
    ],
)
def test_a_complete_run_is_no_answer_to_another_question(
    video: Path,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    expected: str,
) -> None:
    command = ["predict", str(video), *arguments]
    assert cli.main(command) == 0
    assert cli.main([*command, *change, "--resume"]) == 1
    said = capsys.readouterr().err
    assert "holds a complete run of other settings, sources or outputs" in said
    assert expected in said
    assert cli.main(["predict", "more.mp4", *command[1:], "--resume"]) == 1
    assert "sources: [" in capsys.readouterr().err
    assert cli.main([*command, "--save", "jsonl", "jsonl", "--resume"]) == 0


def test_what_was_found_is_kept_until_the_summary_is_written(
    video: Path,
    tmp_path: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["predict", str(video), *arguments]
    journal = tmp_path / "out/.journal.jsonl"

    def fail(*_: object) -> None:
        raise OutputError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_summary", fail)
        assert cli.main(command) == 1
    kept = journal.read_bytes()
    assert cli.main([*command, "--resume"]) == 0
    assert "10 images (10 from the run before)" in capsys.readouterr().out
    assert not journal.exists()
    journal.write_bytes(kept)  # as if the process had been killed before it was deleted
    assert cli.main([*command, "--resume"]) == 0
    assert "the run is complete" in capsys.readouterr().out
    assert not journal.exists()


def test_no_display_is_said_and_leaves_nothing_to_resume(
    video: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    command = ["predict", str(video), *arguments]
    assert cli.main([*command, "--show"]) == 1
    assert "needs a display" in capsys.readouterr().err
    assert cli.main(command) == 0


def test_a_folder_that_cannot_be_used(
    video: Path, tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").touch()
    assert cli.main(["predict", str(video), *arguments]) == 1
    assert "cannot use" in capsys.readouterr().err


@pytest.mark.parametrize("killed", [False, True])
def test_an_interrupted_run_leaves_finished_files_and_can_go_on(
    tmp_path: Path, arguments: list[str], killed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "long.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for index in range(60):
        writer.write(np.full((24, 32, 3), index % 256, np.uint8))
    writer.release()
    out = tmp_path / "out"
    formats = ["--save", "jsonl", "csv", "annotated", "bag"]
    command = ["predict", str(video), *arguments, *formats]
    process = subprocess.Popen([sys.executable, "-m", "pose_node", *command])
    journal = out / ".journal.jsonl"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size > 1500):
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
    process.send_signal(signal.SIGKILL if killed else signal.SIGINT)
    assert process.wait(30) == (-signal.SIGKILL if killed else 130)
    if not killed:
        done = len(lines(out))
        assert 0 < done < 60
        summary = json.loads((out / "run.json").read_text())
        assert (summary["complete"], summary["frames"]) == (False, done)
        assert cv2.VideoCapture(str(out / "annotated/long.webm")).read()[0]
        assert (out / "bags/long/metadata.yaml").is_file()
    assert cli.main([*command, "--resume"]) == 0
    assert "from the run before" in capsys.readouterr().out
    resumed = (out / "poses.jsonl").read_bytes()
    assert cli.main([*command, "--force"]) == 0
    assert (out / "poses.jsonl").read_bytes() == resumed
    assert len(lines(out)) == 60
    assert not list(out.rglob("*partial*"))


def test_every_image_of_a_real_bag_has_its_poses(
    shared: Path, tmp_path: Path, arguments: list[str]
) -> None:
    bag = shared / "data/bags/one_by_one_person_mcap"
    save = ["--save", "bag", "--copy-bag", "--range", ":20"]
    assert cli.main(["predict", str(bag), *arguments, *save]) == 0
    result = tmp_path / "out/bags/one_by_one_person_mcap"
    recording = BagRecording(result, Selection())
    assert recording.frame_count == 80  # copied
    from rosbags.highlevel import AnyReader

    with AnyReader([result]) as reader:
        topics = {c.topic: c.msgcount for c in reader.connections}
    assert topics["/camera/poses"] == 20
    assert topics["/camera/skeleton_info"] == 1
