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
from pose_node.inference.cuda_graph import CudaGraphs
from pose_node.inference.device_engine import DeviceEngine
from pose_node.inference.device_pipeline import MAX_CANDIDATES, MAX_PEOPLE
from pose_node.inference.recorded import REPETITIONS
from pose_node.models.preprocessing import Preprocessing
from pose_node.poses import ChannelOrder
from pose_node.sources import open_source

CPU = torch.device("cpu")


def whole_path(engine: PoseEngine) -> DeviceEngine:
    """Make an engine go the way of a GPU from now on."""
    on_device = DeviceEngine(engine.network, device=CPU, half=False)
    engine._on_device = on_device
    return on_device


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
    """Answers the images of a batch in turn with these rows; counts the batches."""

    stride = 32
    input_size = None
    class_names: tuple[str, ...] = ()
    preprocessing = Preprocessing()

    def __init__(
        self, rows: np.ndarray, *, num_classes: int = 1, dimensions: int = 3, once: bool = False
    ) -> None:
        super().__init__()
        self.rows = torch.from_numpy(rows.astype(np.float32))
        self.num_classes = num_classes
        self.keypoint_dimensions = dimensions
        self.num_keypoints = (rows.shape[1] - 4 - num_classes) // dimensions
        self.end_to_end = once
        self.batches: list[tuple[int, ...]] = []

    def forward(self, batch: Tensor) -> list[tuple[Tensor]]:
        self.batches.append(tuple(batch.shape))
        return [(batch,)]

    def decode(self, raw: Sequence[tuple[Tensor]]) -> Tensor:
        return self.rows.expand(len(raw[0][0]), *self.rows.shape)


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


def test_images_of_a_batch_keep_their_places() -> None:
    network = CannedTorchNetwork(people_apart(1))
    engine = PoseEngine(network, image_size=64)
    whole_path(engine)
    sizes = [(64, 128), (128, 128), (32, 64), (64, 128), (128, 128)]
    results = engine([grey(*size) for size in sizes])
    widths = [float(poses.boxes_xyxy[0, 2]) for poses in results]
    assert widths == [6.0, 6.0, 3.0, 6.0, 6.0]  # 3 pixels of the input, which is half as large
    assert sorted(network.batches) == [(2, 3, 64, 64), (3, 3, 32, 64)]
    assert set(engine.stage_times) == {"preprocess", "network", "postprocess"}


def test_no_images_are_no_people() -> None:
    engine = PoseEngine(CannedTorchNetwork(people_apart(1)), image_size=64)
    whole_path(engine)
    assert engine([]) == []


@pytest.mark.parametrize("dimensions", [2, 3])
def test_keypoints_with_and_without_scores(dimensions: int) -> None:
    engine = PoseEngine(
        CannedTorchNetwork(people_apart(2, dimensions=dimensions), dimensions=dimensions),
        image_size=64,
    )
    for expected, found in both_ways(engine, [grey(64, 64), grey(90, 101)]):
        np.testing.assert_array_equal(found.keypoints, expected.keypoints)
        np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)


def test_thresholds_classes_and_numbers_change_between_calls() -> None:
    rows = np.array(
        [
            [0, 0, 10, 10, 0.9, 0.1, 5, 5, 1],
            [1, 0, 11, 10, 0.8, 0.2, 5, 5, 1],
            [20, 0, 30, 10, 0.1, 0.7, 5, 5, 1],
            [40, 0, 50, 10, 0.4, 0.3, 5, 5, 1],
        ]
    )
    engine = PoseEngine(CannedTorchNetwork(rows, num_classes=2), image_size=64)
    whole_path(engine)

    def scores() -> list[float]:
        return [round(float(score), 3) for score in engine([grey(64, 64)])[0].scores]

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


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("count", [MAX_PEOPLE - 1, MAX_PEOPLE, MAX_PEOPLE + 1])
@pytest.mark.parametrize("max_people", [1, 100, MAX_PEOPLE, 1000])
def test_more_people_than_fit_on_the_device(once: bool, count: int, max_people: int) -> None:
    engine = PoseEngine(
        CannedTorchNetwork(people_apart(count), once=once), image_size=64, max_people=max_people
    )
    ((expected, found),) = both_ways(engine, [grey(64, 64)])
    assert len(found) == min(count, max_people)
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)


@pytest.mark.parametrize("count", [MAX_CANDIDATES, MAX_CANDIDATES + 1])
def test_more_candidates_than_fit_on_the_device(count: int) -> None:
    """The last of them is somebody of its own, who must not be lost."""
    rows = people_apart(2, copies=count)[: count + 1][-count:]
    rows[:-1, :4] = rows[0, :4]
    engine = PoseEngine(CannedTorchNetwork(rows), image_size=64)
    asked: list[int] = []
    answer = engine._poses_of_rows

    def poses_of_rows(*arguments: Any) -> Poses:
        asked.append(1)
        return answer(*arguments)

    engine._poses_of_rows = poses_of_rows  # type: ignore[method-assign]
    ((expected, found),) = both_ways(engine, [grey(64, 64)])
    assert len(found) == 2
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)
    assert len(asked) == (count > MAX_CANDIDATES)


class PretendedGraphs:
    """Records nothing, but counts."""

    stream = None
    why_not: str | None = None

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

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
    assert graphs.replayed == 4


def test_warming_up_records(recording: Recording) -> None:
    engine, on_device, _ = recording
    engine.warm_up([(64, 64), (64, 48)])
    assert on_device.num_graphs == 2


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
    assert {key[0].width for key in on_device._programs} == {32, 64}


def test_sizes_that_never_come_again_leave_nothing_behind(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, on_device, graphs = recording
    monkeypatch.setattr(device_engine, "MAX_SEEN", 5)
    for width in range(1, 20):
        engine([grey(10, width)])
    assert (len(on_device._programs), graphs.recorded) == (0, 0)
    assert len(on_device._seen) <= 5


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


def test_where_recording_fails_there_is_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a GPU, recording fails by itself."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU: recording would not fail")
    for name in ("synchronize", "Stream", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    graphs = CudaGraphs(torch.device("cuda"))
    calls: list[int] = []

    def function() -> None:
        calls.append(1)

    with pytest.warns(RuntimeWarning, match="No CUDA graph"):
        assert graphs.record(function) is function
    assert graphs.why_not is not None
    assert graphs.record(function) is function  # and no second warning


def test_without_graphs_it_says_why() -> None:
    engine = PoseEngine(CannedTorchNetwork(people_apart(1)), image_size=64)
    on_device = whole_path(engine)
    assert on_device.num_graphs == 0
    assert on_device.why_not is not None
    assert on_device.why_no_kernels is not None
