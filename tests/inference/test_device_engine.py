"""The whole path of a GPU, run on the CPU, finds the people of the engine; and its book-keeping."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from pose_node import PoseEngine, Poses
from pose_node.inference import device_engine
from pose_node.inference.device_engine import DeviceEngine
from pose_node.inference.device_pipeline import MAX_CANDIDATES, MAX_PEOPLE
from pose_node.inference.recorded import REPETITIONS
from pose_node.models.preprocessing import Preprocessing
from pose_node.poses import ChannelOrder
from pose_node.sources import open_source

CPU = torch.device("cpu")


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def whole_path(engine: PoseEngine) -> DeviceEngine:
    """Make an engine go the way of a GPU from now on."""
    on_device = DeviceEngine(engine.network, device=CPU, half=False)
    engine._on_device = on_device
    return on_device


def engine_on(device: str, network: CannedTorchNetwork, **settings: Any) -> PoseEngine:
    """An engine that goes the way of a GPU, on a GPU or on the CPU."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("GPU missing: torch finds no CUDA device")
    engine = PoseEngine(network.to(device), device=device, image_size=64, **settings)
    if device == "cpu":
        whole_path(engine)
    return engine


def again_and_again(engine: PoseEngine, images: Sequence[np.ndarray]) -> list[Poses]:
    """People at last, when what can be recorded is; they are those of the first time."""
    first = engine(images)
    for _ in range(REPETITIONS + 1):
        last = engine(images)
        for poses, others in zip(first, last, strict=True):
            np.testing.assert_array_equal(poses.boxes_xyxy, others.boxes_xyxy)
            np.testing.assert_array_equal(poses.keypoints, others.keypoints)
    return last


def both_ways(
    engine: PoseEngine,
    images: Sequence[np.ndarray],
    channel_order: ChannelOrder | Sequence[ChannelOrder] = "bgr",
) -> list[tuple[Poses, Poses]]:
    """People as the engine finds them on the CPU, and as it would on a GPU."""
    expected = engine(images, channel_order=channel_order)
    before, engine._on_device = engine._on_device, None
    whole_path(engine)
    found = engine(images, channel_order=channel_order)
    engine._on_device = before
    return list(zip(expected, found, strict=True))


def assert_same(expected: Poses, found: Poses, tolerance: float = 1e-4) -> None:
    assert len(found) == len(expected)
    for name in ("boxes_xyxy", "scores", "keypoints"):
        values = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(*values, rtol=tolerance, atol=100 * tolerance)


class CannedTorchNetwork(torch.nn.Module):
    """Answers every image of a batch with the same rows; counts the batches."""

    rows: Tensor

    stride = 32
    input_size = None
    class_names: tuple[str, ...] = ()
    preprocessing = Preprocessing()

    def __init__(
        self, rows: np.ndarray, *, num_classes: int = 1, dimensions: int = 3, once: bool = False
    ) -> None:
        super().__init__()
        self.register_buffer("rows", torch.from_numpy(rows.astype(np.float32)))
        self.num_classes = num_classes
        self.keypoint_dimensions = dimensions
        self.num_keypoints = (rows.shape[1] - 4 - num_classes) // dimensions
        self.end_to_end = once
        self.batches: list[tuple[int, ...]] = []

    def forward(self, batch: Tensor) -> list[tuple[Tensor]]:
        self.batches.append(tuple(batch.shape))
        return [(batch,)]

    def decode(self, raw: Sequence[tuple[Tensor]]) -> Tensor:
        return self.rows.expand(raw[0][0].shape[0], *self.rows.shape)


def people_apart(count: int, *, copies: int = 1, dimensions: int = 3) -> np.ndarray:
    """Rows of so many people side by side, each proposed several times."""
    left = np.repeat(np.arange(count) * 4.0, copies)
    top = np.zeros_like(left)
    scores = np.linspace(0.99, 0.5, len(left))
    return np.stack((left, top, left + 3, top + 9, scores, *[left + 1] * dimensions), 1)


def grey(height: int, width: int, value: int = 100) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


FAMILIES = [
    *("y5_s6_tiny_pose.pt", "y7_w6_tiny_pose.pt", "yx_tiny_human_pose.pth"),
    *("ul_yolov8_tiny_pose.pt", "ul_yolo11_tiny_pose.pt", "ul_yolo26_tiny_pose.pt"),
    *("ul_yolo26_tiny_pose_fused_o2o.pt", "ul_yolo11_trainer_stripped.pt"),
]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(shared: Path, name: str) -> None:
    engine = PoseEngine.load(shared / "fixtures" / name, device="cpu", image_size=192)
    sizes: list[tuple[tuple[int, int], ChannelOrder]] = [((120, 160), "bgr"), ((131, 97), "rgb")]
    some = 0
    for (height, width), order in sizes:
        noise = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        for engine.score_threshold, engine.iou_threshold in ((0.01, 0.65), (0.1, 0.3)):
            ((expected, found),) = both_ways(engine, [noise], order)
            assert_same(expected, found)
            some += len(found)
    assert some > 0


def test_people_of_real_images(shared: Path, yolo11n_pose: Path) -> None:
    engine = PoseEngine.load(yolo11n_pose, device="cpu")
    paths = sorted((shared / "data/coco/val2017").glob("*.jpg"))[::14]
    images = [image for path in paths if (image := cv2.imread(str(path))) is not None]
    pairs = both_ways(engine, images)
    for expected, found in pairs:
        assert_same(expected, found)
    assert sum(len(found) for _, found in pairs) > 5


def test_people_of_a_video(shared: Path, yolo11n_pose: Path) -> None:
    engine = PoseEngine.load(yolo11n_pose, device="cpu")
    with open_source(str(shared / "data/videos/squats.mp4")) as source:
        images = [frame.image for frame in itertools.islice(source, 0, 60, 30)]
    for expected, found in both_ways(engine, images):
        assert_same(expected, found)
        assert len(found) > 0


def test_half_precision_finds_the_same_people(shared: Path, yolo11n_pose: Path) -> None:
    """By the arithmetic of the CPU, which rounds to 16 bits where a GPU does."""
    engine = PoseEngine.load(yolo11n_pose, device="cpu", image_size=320)
    image = cv2.imread(str(shared / "data/coco/val2017/000000000785.jpg"))
    assert image is not None
    (expected,) = engine([image])
    engine.network.half()  # type: ignore[attr-defined]
    engine._on_device = DeviceEngine(engine.network, device=CPU, half=True)
    (found,) = engine([image])
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.keypoints[..., :2], expected.keypoints[..., :2], atol=0.5)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=0.5)


class BrightnessNetwork(CannedTorchNetwork):
    """Moves the keypoints of an image by its brightness, in 64ths."""

    def decode(self, raw: Sequence[tuple[Tensor]]) -> Tensor:
        rows = super().decode(raw).clone()
        rows[..., 5:7] += raw[0][0].float().mean((1, 2, 3))[:, None, None] * 64
        return rows


@pytest.mark.parametrize("device", DEVICES)
def test_images_of_a_batch_keep_their_places(device: str) -> None:
    network = BrightnessNetwork(people_apart(1))
    engine = engine_on(device, network)
    sizes = [(64, 128), (128, 128), (32, 64), (64, 128), (128, 128)]
    for turn in range(REPETITIONS + 3):  # not recorded, then recorded
        values = [20 * index + turn for index in range(len(sizes))]
        results = engine([grey(*size, value) for size, value in zip(sizes, values, strict=True)])
        widths = [float(poses.boxes_xyxy[0, 2]) for poses in results]
        assert widths == [6.0, 6.0, 3.0, 6.0, 6.0]  # 3 pixels of the input, which is half as large
        scale = np.array([2, 2, 1, 2, 2])
        expected = (1 + np.array(values) / 255 * 64) * scale
        moved = [float(poses.keypoints[0, 0, 0]) for poses in results]
        np.testing.assert_allclose(moved, expected, rtol=1e-4)
    assert {(2, 3, 64, 64), (3, 3, 32, 64)} == set(network.batches)
    assert set(engine.stage_times) == {"preprocess", "network", "postprocess"}
    if device == "cuda":
        assert engine._on_device is not None
        assert engine._on_device.why_not is None
        assert engine._on_device.num_graphs == 2


def test_no_images_are_no_people() -> None:
    engine = PoseEngine(CannedTorchNetwork(people_apart(1)), image_size=64)
    whole_path(engine)
    assert engine([]) == []


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_keypoints_with_and_without_scores(device: str, dimensions: int) -> None:
    def network() -> CannedTorchNetwork:
        return CannedTorchNetwork(people_apart(2, dimensions=dimensions), dimensions=dimensions)

    images = [grey(64, 64), grey(90, 101)]
    found = again_and_again(engine_on(device, network()), images)
    for expected, poses in zip(PoseEngine(network(), image_size=64)(images), found, strict=True):
        np.testing.assert_array_equal(poses.keypoints, expected.keypoints)
        np.testing.assert_array_equal(poses.boxes_xyxy, expected.boxes_xyxy)


@pytest.mark.parametrize("device", DEVICES)
def test_thresholds_classes_and_numbers_change_between_calls(device: str) -> None:
    rows = np.array(
        [
            [0, 0, 10, 10, 0.9, 0.1, 5, 5, 1],
            [1, 0, 11, 10, 0.8, 0.2, 5, 5, 1],
            [20, 0, 30, 10, 0.1, 0.7, 5, 5, 1],
            [40, 0, 50, 10, 0.4, 0.3, 5, 5, 1],
        ]
    )
    engine = engine_on(device, CannedTorchNetwork(rows, num_classes=2))

    def scores() -> list[float]:
        return [round(float(score), 3) for score in engine([grey(64, 64)])[0].scores]

    for _ in range(REPETITIONS + 1):  # from now on as a graph
        assert scores() == [0.9, 0.7, 0.4]
    engine.iou_threshold = 0.9
    assert scores() == [0.9, 0.8, 0.7, 0.4]
    engine.score_threshold = 0.5
    assert scores() == [0.9, 0.8, 0.7]
    engine.max_people = 2
    assert scores() == [0.9, 0.8]
    engine.classes = (1,)
    assert scores() == [0.7]
    engine.classes = None
    assert scores() == [0.9, 0.8]
    if device == "cuda":
        assert engine._on_device is not None
        assert engine._on_device.num_graphs == 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("count", [MAX_PEOPLE - 1, MAX_PEOPLE, MAX_PEOPLE + 1])
def test_more_people_than_fit_on_the_device(device: str, once: bool, count: int) -> None:
    engine = engine_on(device, CannedTorchNetwork(people_apart(count), once=once))
    plain = PoseEngine(CannedTorchNetwork(people_apart(count), once=once), image_size=64)
    for max_people in (1, 100, MAX_PEOPLE, 1000):
        engine.max_people = plain.max_people = max_people
        (found,) = again_and_again(engine, [grey(64, 64)])
        assert len(found) == min(count, max_people)
        np.testing.assert_array_equal(found.boxes_xyxy, plain([grey(64, 64)])[0].boxes_xyxy)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [MAX_CANDIDATES, MAX_CANDIDATES + 1])
def test_more_candidates_than_fit_on_the_device(
    device: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of them is somebody of its own, who must not be lost."""
    rows = people_apart(2, copies=count)[: count + 1][-count:]
    engine = engine_on(device, CannedTorchNetwork(rows))
    asked: list[int] = []
    answer = engine._poses_of_rows

    def poses_of_rows(*arguments: Any) -> Poses:
        asked.append(1)
        return answer(*arguments)

    monkeypatch.setattr(engine, "_poses_of_rows", poses_of_rows)
    (found,) = again_and_again(engine, [grey(64, 64)])
    assert [float(left) for left in found.boxes_xyxy[:, 0]] == [0.0, 4.0]
    assert bool(asked) == (count > MAX_CANDIDATES)


class PretendedGraphs:
    """Records nothing, but counts."""

    stream = None
    why_not: str | None = None

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0
        self.forgotten = 0

    def forget(self) -> None:
        self.forgotten += 1

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            function()

        return replay


@pytest.fixture
def recording() -> tuple[PoseEngine, DeviceEngine, PretendedGraphs]:
    engine = PoseEngine(CannedTorchNetwork(people_apart(1)), image_size=64)
    on_device, graphs = whole_path(engine), PretendedGraphs()
    on_device._graphs = graphs  # type: ignore[assignment]
    return engine, on_device, graphs


Recording = tuple[PoseEngine, DeviceEngine, PretendedGraphs]


def test_what_comes_again_is_recorded(recording: Recording) -> None:
    engine, on_device, graphs = recording
    for call in range(REPETITIONS + 2):
        assert len(engine([grey(64, 64, call)])[0]) == 1
    assert (graphs.recorded, graphs.replayed, on_device.num_graphs) == (1, 3, 1)


def test_cameras_in_another_order_are_the_same_composition(recording: Recording) -> None:
    engine, _, graphs = recording
    images = [grey(64, 64), grey(40, 64), grey(64, 64)]
    for order in itertools.permutations(images):
        assert [len(poses) for poses in engine(order)] == [1, 1, 1]
    assert graphs.recorded == 1
    engine(images, channel_order=["rgb", "bgr", "bgr"])
    assert (graphs.recorded, graphs.replayed) == (1, 5)


class RedNetwork(CannedTorchNetwork):
    """Moves the keypoints of an image by its red, in 64ths; it wants RGB."""

    def decode(self, raw: Sequence[tuple[Tensor]]) -> Tensor:
        rows = super().decode(raw).clone()
        rows[..., 5:7] += raw[0][0][:, :1].float().mean((1, 2, 3))[:, None, None] * 64
        return rows


@pytest.mark.parametrize("device", DEVICES)
def test_orders_of_channels_change_between_calls(device: str) -> None:
    """They are no part of what is recorded."""
    engine = engine_on(device, RedNetwork(people_apart(1)))
    image = grey(64, 64)
    image[..., 2] = 255  # red, or blue
    for orders in [*itertools.product(("bgr", "rgb"), repeat=3)] * 2:
        found = engine([image] * 3, channel_order=orders)
        moved = [float(poses.keypoints[0, 0, 0]) for poses in found]
        expected = [65.0 if order == "bgr" else 1 + 100 / 255 * 64 for order in orders]
        np.testing.assert_allclose(moved, expected, rtol=1e-3)
    if device == "cuda":
        assert engine._on_device is not None
        assert engine._on_device.num_graphs == 1


def test_warming_up_records_at_once(recording: Recording) -> None:
    """Before anything of that shape has run: cuDNN would not try its algorithms any more."""
    engine, on_device, graphs = recording
    network: Any = engine.network
    record, ran = graphs.record, []

    def note(function: Callable[[], None]) -> Callable[[], None]:
        ran.append(len(network.batches))
        return record(function)

    graphs.record = note  # type: ignore[method-assign]
    engine.warm_up([(64, 64)])
    assert (ran, on_device.num_graphs) == ([0], 1)
    engine([grey(32, 32)])
    assert graphs.recorded == 1


def test_after_warming_up_for_eight_cameras_nothing_is_recorded(recording: Recording) -> None:
    engine, on_device, graphs = recording
    engine._batches = True  # as on a GPU
    engine.warm_up([(64, 36), (64, 48)], batch=8)
    assert on_device.num_graphs == graphs.recorded == 16
    assert sorted(len(key) for key in on_device._programs) == sorted([*range(1, 9)] * 2)
    for count in range(1, 9):
        for height, order in itertools.product((36, 48), ("bgr", "rgb")):
            for _ in range(REPETITIONS):
                engine([grey(height, 64)] * count, channel_order=order)  # type: ignore[arg-type]
    assert graphs.recorded == 16


def test_batches_of_one_size_of_input_share_memory(recording: Recording) -> None:
    """But not an upright image and a wide one, whose networks see as many pixels."""
    engine, on_device, _ = recording
    engine([grey(32, 64)] * 4 + [grey(64, 32)])
    engine([grey(32, 64)])
    engine([grey(16, 32)] * 2)
    owners = {
        each.pipeline.rows.untyped_storage().data_ptr() for each in on_device._programs.values()
    }
    assert len(on_device._programs) == 4
    assert len(owners) == len(on_device._rows) == 2
    assert [len(rows) for rows in on_device._rows.values()] == [4, 1]


def test_what_was_warmed_up_and_never_came_makes_room_at_once(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, on_device, graphs = recording
    monkeypatch.setattr(device_engine, "MAX_GRAPHS", 2)
    engine.warm_up([(64, 64), (64, 48)])
    engine([grey(64, 64)])
    for _ in range(REPETITIONS):
        engine([grey(32, 64)])
    assert graphs.recorded == 3
    assert {key[0].image_height for key in on_device._programs} == {64, 32}


def test_what_is_forgotten_is_recorded_again(recording: Recording) -> None:
    engine, on_device, graphs = recording
    for _ in range(REPETITIONS):
        engine([grey(64, 64)])
    engine.release_graphs()
    assert (on_device.num_graphs, on_device._rows, on_device._upload) == (0, {}, None)
    assert graphs.forgotten == 1
    for _ in range(REPETITIONS):
        assert len(engine([grey(64, 64)])[0]) == 1
    assert graphs.recorded == 2
    plain = PoseEngine(CannedTorchNetwork(people_apart(1)), image_size=64)
    plain.release_graphs()  # there are none
    assert len(plain([grey(64, 64)])[0]) == 1


def test_a_recording_without_memory_is_tried_again_later(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, on_device, graphs = recording
    monkeypatch.setattr(device_engine, "LONG_UNUSED", 4)
    record = graphs.record
    monkeypatch.setattr(graphs, "record", lambda function: function)  # as without memory
    for _ in range(REPETITIONS):
        engine([grey(64, 64)])
    assert on_device.num_graphs == 0
    monkeypatch.setattr(graphs, "record", record)
    for _ in range(6):
        assert len(engine([grey(64, 64)])[0]) == 1
    assert on_device.num_graphs == 0
    engine([grey(64, 64)])
    assert on_device.num_graphs == 1


def test_not_too_many_graphs_and_the_unused_make_room(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, on_device, graphs = recording
    monkeypatch.setattr(device_engine, "MAX_GRAPHS", 2)
    monkeypatch.setattr(device_engine, "LONG_UNUSED", 10)
    for width in (32, 48, 64):
        for _ in range(REPETITIONS):
            engine([grey(32, width)])
    assert (on_device.num_graphs, graphs.recorded) == (2, 2)
    for _ in range(10):
        engine([grey(32, 32)])
    for _ in range(REPETITIONS):
        engine([grey(32, 64)])
    assert (on_device.num_graphs, graphs.recorded) == (2, 3)
    assert {key[0].image_width for key in on_device._programs} == {32, 64}


def test_sizes_that_never_come_again_leave_little_behind(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, on_device, graphs = recording
    monkeypatch.setattr(device_engine, "MAX_UNRECORDED", 5)
    for width in range(40, 0, -1):
        engine([grey(10, width)])
    assert (len(on_device._programs), graphs.recorded) == (5, 0)
    assert {key[0].image_width for key in on_device._programs} == {1, 2, 3, 4, 5}


def test_what_is_not_recorded_is_not_made_anew_each_time(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which would take some ten blocking copies."""
    engine, on_device, graphs = recording
    monkeypatch.setattr(device_engine, "MAX_GRAPHS", 1)
    for _ in range(REPETITIONS):
        engine([grey(64, 64)])
    for _ in range(REPETITIONS + 1):
        engine([grey(32, 64)])
        engine([grey(64, 64)])
    assert graphs.recorded == on_device.num_graphs == 1
    (other,) = (each for each in on_device._programs.values() if not each.recorded)
    assert other.calls == REPETITIONS + 1


def test_a_larger_image_gets_more_memory(recording: Recording) -> None:
    engine, on_device, _ = recording
    engine([grey(32, 32)])
    small = on_device._upload
    engine([grey(640, 640)])
    assert small is not None
    assert on_device._upload is not None
    assert len(on_device._upload.pixels) == 640 * 640 * 3 > len(small.pixels)
    engine([grey(32, 32)])
    assert len(on_device._upload.pixels) == 640 * 640 * 3
    assert all(each.upload is on_device._upload for each in on_device._programs.values())


def test_without_graphs_it_says_why() -> None:
    engine = PoseEngine(CannedTorchNetwork(people_apart(1)), image_size=64)
    on_device = whole_path(engine)
    assert on_device.num_graphs == 0
    assert on_device.why_not is not None
    assert on_device.why_no_kernels is not None


@pytest.mark.gpu
@pytest.mark.parametrize("half", [False, True])
def test_people_of_real_images_on_the_gpu(shared: Path, yolo11n_pose: Path, half: bool) -> None:
    if not torch.cuda.is_available():
        pytest.skip("GPU missing: torch finds no CUDA device")
    plain = PoseEngine.load(yolo11n_pose, device="cpu", score_threshold=0.28)
    engine = PoseEngine.load(yolo11n_pose, device="cuda", half=half)  # 0.3
    paths = sorted((shared / "data/coco/val2017").glob("*.jpg"))[::14]
    images = [image for path in paths if (image := cv2.imread(str(path))) is not None]
    for _ in range(REPETITIONS + 1):  # the last time as a graph
        results = engine(images)
    apart = []
    for expected, found in zip(plain(images), results, strict=True):
        sure = expected.scores > 0.32
        assert sure.sum() <= len(found) <= len(expected)
        for box, points in zip(expected.boxes_xyxy[sure], expected.keypoints[sure], strict=True):
            nearest = np.abs(found.boxes_xyxy - box).max(1).argmin()
            seen = points[:, 2] > 0.5
            others = found.keypoints[nearest, seen, :2]
            apart.append(np.abs(found.boxes_xyxy[nearest] - box).max())
            apart.append(np.abs(others - points[seen, :2]).max(initial=0))
    # Float16 moves a few people by pixels, also on the CPU; TF32 would move many by tenths.
    assert np.percentile(apart, 90) < 0.5 if half else max(apart) < 0.05
    assert engine._on_device is not None
    assert engine._on_device.why_not is None
    assert engine._on_device.num_graphs > 0
