"""What runs on the machines of a cluster, without Ray; and putting its rows into order."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose_node import PoseEngine
from pose_node.errors import ClusterError, ImageError, SourceError
from pose_node.poses import Poses
from pose_node.prediction import ray_workers
from pose_node.prediction.frames import AnsweredFrame, Failure, Selection
from pose_node.prediction.journal import Journal, pack, unpack
from pose_node.prediction.ray_recordings import OrderedItems, RayRecording
from pose_node.prediction.ray_workers import (
    EngineSettings,
    EngineWorker,
    ReadingPlan,
    find_people,
    read_source,
)
from pose_node.prediction.run import predict
from tests.prediction.conftest import FakeRecording, make_recorded, people_in

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def same_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers go to the folder of the run; come back after each test."""
    monkeypatch.chdir(Path.cwd())


def read(name: str | Path, **plan: Any) -> tuple[list[dict[str, Any]], list[bytes]]:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is missing")
    plan = {"folder": os.getcwd(), "selection": Selection(), **plan}
    source = pyarrow.table({"number": [4], "name": [os.fsencode(name)]})
    tables = list(read_source(ReadingPlan(**plan), source))
    assert {table.num_rows for table in tables} == {1}
    rows = [row for table in tables for row in table.to_pylist()]
    items = [json.loads(row["item"]) for row in rows]
    assert [item["number"] for item in items] == [4] * len(rows)
    assert [item["place"] for item in items] == list(range(len(rows)))
    return items, [row["image"] for row in rows]


# --- Reading ------------------------------------------------------------------------------------


def test_images_are_read_with_all_that_belongs_to_them(images: Path) -> None:
    items, pixels = read(images)
    assert [item["kind"] for item in items] == ["begin", *["frame"] * 3, "failure", "end"]
    assert items[0]["recording"] == "images"
    assert items[0]["frame_count"] == 4
    assert items[1]["source"] == str(images / "001.png")
    assert (items[2]["index"], items[2]["stamp_ns"], items[2]["known"]) == (1, None, False)
    assert items[4]["source"] == str(images / "004.png")
    width, height = items[1]["size"]
    expected = cv2.imread(str(images / "001.png"))
    found = np.frombuffer(pixels[1], np.uint8).reshape(height, width, 3)
    np.testing.assert_array_equal(found, expected)
    assert pixels[0] == pixels[4] == b""


def test_a_selection_counts_in_the_source(video: Path) -> None:
    items, _ = read(video, selection=Selection(every=3))
    assert [item["index"] for item in items if item["kind"] == "frame"] == [0, 3, 6, 9]


def test_known_frames_leave_their_pixels(video: Path) -> None:
    items, pixels = read(
        video, known={(str(video), ""): np.array([0, 1, 5, 6]), ("other", ""): np.arange(9)}
    )
    known = [item["index"] for item in items if item.get("known")]
    assert known == [0, 1, 5, 6]
    assert [len(image) > 0 for image in pixels[1:-1]] == [index not in known for index in range(10)]


def test_a_source_that_cannot_be_read() -> None:
    items, _ = read("nowhere.mp4")
    assert [item["kind"] for item in items] == ["unreadable"]
    assert "nowhere.mp4 does not exist" in items[0]["reason"]


def test_a_source_that_breaks_off(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        kind, fps, frame_count = "video", None, None

        def __iter__(self) -> Any:
            yield Failure("a.mp4", "one frame")
            raise SourceError("it ended")

        def close(self) -> None:
            closed.append(True)

    closed: list[bool] = []
    monkeypatch.setattr(ray_workers, "open_recording", lambda *_, **__: Broken())
    items, _ = read(video)
    assert [item["kind"] for item in items] == ["begin", "failure", "broken"]
    assert items[2]["reason"] == "it ended"
    assert closed == [True]


def test_relative_names_count_from_the_folder_of_the_run(video: Path) -> None:
    assert read(video.name, folder=str(video.parent))[0][-1]["kind"] == "end"
    assert read(video, folder="/nowhere")[0][-1]["kind"] == "end"


# --- People -------------------------------------------------------------------------------------


def test_an_engine_finds_what_it_finds_elsewhere(shared: Path, video: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is missing")
    model = shared / "fixtures/ul_yolo11_tiny_pose.pt"
    arguments = {"device": "cpu", "image_size": 64, "score_threshold": 0.001, "max_people": 3}
    import torch

    threads = torch.get_num_threads()
    worker = EngineWorker(EngineSettings(model.name, arguments, threads), model.read_bytes())
    items, pixels = read(video, known={(str(video), ""): np.array([0])})
    table = pyarrow.table(
        {"item": [json.dumps(item) for item in items], "image": pyarrow.array(pixels, "binary")}
    )
    rows = worker(table).to_pylist()
    assert [json.loads(row["item"]) for row in rows] == items
    engine = PoseEngine.load(model, **arguments)
    for item, image, row in zip(items, pixels, rows, strict=True):
        if item["kind"] != "frame" or item["known"]:
            assert row["people"] == b""
            continue
        width, height = item["size"]
        (expected,) = engine([np.frombuffer(image, np.uint8).reshape(height, width, 3)])
        assert len(expected) > 0
        assert row["people"] == pack(expected)


def test_a_frame_that_the_engine_refuses_is_a_failure(shared: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is missing")
    worker = EngineWorker.__new__(EngineWorker)
    worker._engine = Refusing()
    items = [
        {"kind": "frame", "known": False, "size": [1, 1], "channel_order": "bgr", "index": index}
        for index in range(3)
    ]
    pixels = [bytes([5, 5, 5]), bytes([0, 0, 0]), bytes([7, 7, 7])]
    table = pyarrow.table(
        {"item": [json.dumps(item) for item in items], "image": pyarrow.array(pixels, "binary")}
    )
    found = [json.loads(row["item"]) for row in worker(table).to_pylist()]
    assert [item["kind"] for item in found] == ["frame", "failure", "frame"]
    assert found[1]["reason"] == "too dark"


class Refusing:
    """An engine that refuses black images, and fails with some of them."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.batches: list[int] = []

    def __call__(self, images: Sequence[np.ndarray], *, channel_order: object) -> list[Poses]:
        self.batches.append(len(images))
        if len(self.batches) <= self.failures:
            raise RuntimeError("out of memory")
        if any(image.max() == 0 for image in images):
            raise ImageError("too dark", kind="dark")
        return [people_in(image) for image in images]


@pytest.mark.parametrize(
    ("failures", "batches"), [(0, [3]), (1, [3, 1, 1, 1]), (2, [3, 1, 1, 1, 1])]
)
def test_what_fails_is_tried_again_alone(failures: int, batches: list[int]) -> None:
    images = [np.full((4, 4, 3), 30 + value, np.uint8) for value in range(3)]
    engine = Refusing(failures)
    assert find_people(engine, images, ["bgr"] * 3) == [pack(people_in(image)) for image in images]
    assert engine.batches == batches


def test_what_fails_always_is_no_result() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        find_people(Refusing(9), [np.ones((4, 4, 3), np.uint8)], ["bgr"])


def test_no_images() -> None:
    engine = Refusing()
    assert find_people(engine, [], []) == []
    assert engine.batches == []


@pytest.mark.parametrize("count", [0, 2])
def test_people_are_packed_bit_for_bit(count: int) -> None:
    rng = np.random.default_rng(0)
    poses = Poses.from_arrays(
        rng.normal(size=(count, 4)), rng.random(count), rng.normal(size=(count, 5, 3))
    )
    found = unpack(pack(poses), 5)
    for name in ("boxes_xyxy", "scores", "keypoints", "ids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(poses, name))


# --- Order --------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = open_journal(tmp_path)
    yield journal
    journal.close(keep=False)


def open_journal(folder: Path, *, resume: bool = False) -> Journal:
    return Journal(folder / "journal", {}, num_keypoints=3, resume=resume)


def frame_row(number: int, place: int, *, known: bool = False) -> dict[str, Any]:
    """A row of a frame whose grey value, and so its people, tell number and place."""
    frame = make_recorded(place, source=str(number))
    item = {"number": number, "place": place, "kind": "frame", "known": known, **frame.describe()}
    people = people_in(np.full((1, 1, 3), 10 * number + place, np.uint8))
    return {"item": json.dumps(item), "people": b"" if known else pack(people)}


def other_row(number: int, place: int, kind: str) -> dict[str, Any]:
    begin = {"recording": "video", "fps": 10.0, "frame_count": 2, "reason": "broken"}
    item = {"number": number, "place": place, "kind": kind, **begin}
    return {"item": json.dumps(item), "people": b""}


def make_rows() -> list[dict[str, Any]]:
    """Two sources and one that cannot be read between them."""
    return [
        other_row(0, 0, "begin"),
        *(frame_row(0, place) for place in (1, 2)),
        other_row(0, 3, "end"),
        other_row(1, 0, "unreadable"),
        other_row(2, 0, "begin"),
        frame_row(2, 1),
        other_row(2, 2, "end"),
    ]


def told(item: AnsweredFrame | dict[str, Any]) -> Any:
    """What an item is; of a frame, the grey value that its people tell."""
    return round(256 * item.poses.scores[0]) if isinstance(item, AnsweredFrame) else item["kind"]


def ordered(rows: list[dict[str, Any]], journal: Journal) -> list[list[Any]]:
    remaining = iter(rows)
    items = OrderedItems(lambda: next(remaining, None), journal)
    return [[told(item) for item in items.source(number)] for number in range(3)]


@pytest.mark.parametrize("seed", range(5))
def test_rows_in_any_order_and_twice_come_in_order_and_once(seed: int, journal: Journal) -> None:
    rows = make_rows() * 2
    random.Random(seed).shuffle(rows)
    assert ordered(rows, journal) == [
        *(["begin", 1, 2, "end"], ["unreadable"], ["begin", 21, "end"])
    ]
    assert journal.path.read_bytes().count(b"\n") == 1 + 3  # each frame once


def test_a_row_that_never_comes_is_an_error(journal: Journal) -> None:
    rows = make_rows()
    del rows[2]
    with pytest.raises(ClusterError, match="without item 2 of source 0"):
        ordered(rows, journal)


def test_what_comes_early_is_in_the_journal_before_its_turn(tmp_path: Path) -> None:
    """A long source first, many short ones after it: all that came outlives this process."""
    journal = open_journal(tmp_path)
    rows = iter([frame_row(number, 1) for number in range(1, 9)] + [other_row(0, 0, "begin")])
    items = OrderedItems(lambda: next(rows, None), journal)
    assert told(next(items.source(0))) == "begin"
    resumed = open_journal(tmp_path, resume=True)
    assert set(resumed.known()) == {(str(number), "") for number in range(1, 9)}
    resumed.close(keep=True)
    journal.close(keep=False)


def test_what_is_known_comes_out_of_the_journal(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    poses = people_in(np.full((1, 1, 3), 77, np.uint8))
    journal.add(make_recorded(1, source="0"), poses)
    journal.close(keep=True)
    journal = open_journal(tmp_path, resume=True)
    found = [other_row(0, 0, "begin"), frame_row(0, 2), frame_row(0, 1, known=True)]
    rows = iter([*found, other_row(0, 3, "end")])
    items = list(OrderedItems(lambda: next(rows, None), journal).source(0))
    assert [told(item) for item in items] == ["begin", 77, 2, "end"]
    frames = [item for item in items if isinstance(item, AnsweredFrame)]
    assert [frame.recalled for frame in frames] == [True, False]
    journal.close(keep=False)


def test_items_become_frames_and_failures() -> None:
    poses = people_in(np.full((24, 32, 3), 40, np.uint8))
    frame = AnsweredFrame.described(make_recorded(3).describe(), poses, recalled=False)
    failure = {"kind": "failure", "source": "b", "reason": "broken", "topic": "", "index": None}
    items: list[Any] = [frame, failure, {"kind": "broken", "reason": "it ended"}]
    begin = {"recording": "bag", "fps": 10.0, "frame_count": 9}
    recording = RayRecording("a", begin, iter(items))
    assert (recording.name, recording.kind, recording.fps) == ("a", "bag", 10.0)
    assert recording.frame_count == 9
    found = iter(recording)
    assert next(found) is frame
    assert next(found) == Failure("b", "broken")
    with pytest.raises(SourceError, match="it ended"):
        next(found)
    recording.close()


def test_answered_frames_need_no_engine(journal: Journal) -> None:
    poses = people_in(np.full((24, 32, 3), 40, np.uint8))
    frames = [
        AnsweredFrame.described(make_recorded(index).describe(), poses, recalled=index == 1)
        for index in range(3)
    ]

    def never(*_: object, **__: object) -> list[Poses]:
        raise AssertionError("the engine is not used")

    summary = predict(
        never, ["a"], lambda _: FakeRecording(frames), [], journal=journal, batch_size=2
    )
    assert (summary.frames, summary.people, summary.recalled) == (3, 3, 1)
    assert summary.failures == []
    assert journal.path.read_bytes().count(b"\n") == 1  # whoever answered wrote them down


@pytest.mark.parametrize("module", ["prediction", "prediction.run", "predict_command", "cli"])
def test_a_local_run_knows_no_ray(module: str) -> None:
    code = f"import sys, pose_node.{module}; print('ray' in sys.modules, 'pyarrow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "False"]
