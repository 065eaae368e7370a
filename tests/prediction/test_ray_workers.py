"""What runs on the machines of a cluster, without Ray; and putting its rows into order."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
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
from pose_node.prediction.journal import pack, unpack
from pose_node.prediction.ray_recordings import OrderedItems, RayRecording
from pose_node.prediction.ray_workers import (
    EngineSettings,
    EngineWorker,
    ReadingPlan,
    find_people,
    read_source,
)
from pose_node.prediction.run import predict
from tests.prediction.conftest import FakeRecording, people_in

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def same_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers go to the folder of the run; come back after each test."""
    monkeypatch.chdir(Path.cwd())


def read(name: str | Path, **plan: Any) -> tuple[list[dict[str, Any]], list[bytes]]:
    plan = {"folder": os.getcwd(), "selection": Selection(), **plan}
    rows = list(read_source(ReadingPlan(**plan), {"number": 4, "name": str(name)}))
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
    items, pixels = read(video, known={(str(video), ""): 6, ("other", ""): 9})
    assert [item.get("known") for item in items] == [None, *[True] * 7, *[False] * 3, None]
    assert [len(image) > 0 for image in pixels] == [False] * 8 + [True] * 3 + [False]


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
    items, pixels = read(video, known={(str(video), ""): 0})
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


def make_rows() -> list[dict[str, Any]]:
    """Two sources and one that cannot be read between them."""
    kinds = {0: ["begin", "frame", "frame", "end"], 1: ["unreadable"], 2: ["begin", "end"]}
    return [
        {
            "item": json.dumps({"number": number, "place": place, "kind": kind}),
            "people": f"{number}.{place}".encode(),
        }
        for number, found in kinds.items()
        for place, kind in enumerate(found)
    ]


def ordered(rows: list[dict[str, Any]]) -> list[list[bytes]]:
    remaining = iter(rows)
    items = OrderedItems(lambda: next(remaining, None))
    return [[people for _, people in items.source(number)] for number in range(3)]


@pytest.mark.parametrize("seed", range(5))
def test_rows_in_any_order_and_twice_come_in_order_and_once(seed: int) -> None:
    rows = make_rows() * 2
    random.Random(seed).shuffle(rows)
    assert ordered(rows) == [[b"0.0", b"0.1", b"0.2", b"0.3"], [b"1.0"], [b"2.0", b"2.1"]]


def test_a_row_that_never_comes_is_an_error() -> None:
    rows = make_rows()
    del rows[2]
    with pytest.raises(ClusterError, match="without item 2 of source 0"):
        ordered(rows)


def test_items_become_frames_and_failures() -> None:
    frame = {
        **{
            "kind": "frame",
            "source": "a",
            "topic": "/t",
            "index": 3,
            "stamp_ns": 5,
            "known": False,
        },
        **{"channel_order": "rgb", "frame_id": "camera", "logged_ns": 7, "size": [32, 24]},
    }
    failure = {"kind": "failure", "source": "b", "reason": "broken", "topic": "", "index": None}
    poses = people_in(np.full((24, 32, 3), 40, np.uint8))
    items = [
        (frame, pack(poses)),
        ({**frame, "known": True}, b""),
        (failure, b""),
        ({"kind": "broken", "reason": "it ended"}, b""),
    ]
    begin = {"recording": "bag", "fps": 10.0, "frame_count": 9}
    recording = RayRecording("a", begin, iter(items), 3)
    assert (recording.name, recording.kind, recording.fps) == ("a", "bag", 10.0)
    assert recording.frame_count == 9
    found = iter(recording)
    first, second, third = (next(found) for _ in range(3))
    assert isinstance(first, AnsweredFrame)
    assert (first.key, first.size, first.channel_order) == (("a", "/t", 3), (32, 24), "rgb")
    assert (first.stamp_ns, first.frame_id, first.logged_ns) == (5, "camera", 7)
    assert first.poses is not None
    np.testing.assert_array_equal(first.poses.keypoints, poses.keypoints)
    assert isinstance(second, AnsweredFrame)
    assert second.poses is None
    assert third == Failure("b", "broken")
    with pytest.raises(SourceError, match="it ended"):
        next(found)
    recording.close()


def test_answered_frames_need_no_engine() -> None:
    poses = people_in(np.full((24, 32, 3), 40, np.uint8))
    image = np.zeros((24, 32, 3), np.uint8)
    frames = [
        AnsweredFrame("a", "", index, 0, image, poses=None if index == 1 else poses)
        for index in range(3)
    ]

    def never(*_: object, **__: object) -> list[Poses]:
        raise AssertionError("the engine is not used")

    summary = predict(never, ["a"], lambda _: FakeRecording(frames), [], batch_size=2)
    assert (summary.frames, summary.people) == (2, 2)
    assert summary.failures == [Failure("a", "the run before refused it", "", 1)]


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
