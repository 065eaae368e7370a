"""The engine's people, on a network of canned answers and on the real one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from pose_node import PoseEngine
from pose_node.errors import CheckpointError, DeviceError, ImageError
from pose_node.models.preprocessing import Preprocessing
from pose_node.poses import COCO17, Skeleton


class CannedNetwork:
    """Answers every image of a batch with the same rows."""

    stride = 32
    input_size: tuple[int, int] | None = None
    class_names: tuple[str, ...] = ()
    preprocessing = Preprocessing()
    end_to_end = False

    def __init__(
        self, rows: Sequence[Sequence[float]], *, num_classes: int = 1, dimensions: int = 3
    ) -> None:
        self.rows = torch.tensor(rows, dtype=torch.float32)
        self.num_keypoints = (self.rows.shape[1] - 4 - num_classes) // dimensions
        self.keypoint_dimensions = dimensions
        self.num_classes = num_classes
        self.inputs: list[Tensor] = []

    def __call__(self, batch: Tensor) -> list[tuple[Tensor, ...]]:
        self.inputs.append(batch)
        return [(batch,)]

    def decode(self, raw: Sequence[tuple[Tensor, ...]]) -> Tensor:
        return self.rows.expand(raw[0][0].shape[0], *self.rows.shape)


class _Called:
    """A network whose call is replaced."""

    def __init__(self, network: CannedNetwork, call: Any) -> None:
        self._network = network
        self._call = call

    def __call__(self, batch: Tensor) -> Any:
        return self._call(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


def image(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


PERSON = [100, 112, 300, 312, 0.9, 150, 162, 0.8]
DUPLICATE = [101, 113, 301, 313, 0.8, 0, 0, 0]
WEAK = [400, 112, 420, 152, 0.3, 0, 0, 0]


def test_people_land_in_the_pixels_of_the_image() -> None:
    engine = PoseEngine(CannedNetwork([PERSON, DUPLICATE, WEAK]))
    (poses,) = engine([image(720, 1280)])  # input 640 x 384, scaled by half, 12 rows of padding
    np.testing.assert_allclose(poses.boxes_xyxy, [[200, 200, 600, 600]])
    np.testing.assert_allclose(poses.keypoints, [[[300, 300, 0.8]]])
    np.testing.assert_allclose(poses.scores, [0.9])
    assert poses.ids.tolist() == [-1]


def test_nobody_above_the_threshold() -> None:
    (poses,) = PoseEngine(CannedNetwork([WEAK]), score_threshold=0.5)([image(720, 1280)])
    assert len(poses) == 0
    assert poses.keypoints.shape == (0, 1, 3)


def test_no_images() -> None:
    assert PoseEngine(CannedNetwork([PERSON]))([]) == []


def test_boxes_are_clipped_to_the_image_and_keypoints_are_not() -> None:
    row = [-50, 0, 700, 500, 0.9, -20, 400, 0.8]
    (poses,) = PoseEngine(CannedNetwork([row]))([image(480, 640)])
    np.testing.assert_allclose(poses.boxes_xyxy, [[0, 0, 640, 480]])
    np.testing.assert_allclose(poses.keypoints, [[[-20, 400, 0.8]]])


def test_keypoints_without_a_score_get_one() -> None:
    network = CannedNetwork([[0, 0, 10, 10, 0.9, 5, 6, 7, 8]], dimensions=2)
    (poses,) = PoseEngine(network)([image(480, 640)])
    np.testing.assert_allclose(poses.keypoints, [[[5, 6, 1], [7, 8, 1]]])


def test_classes_do_not_suppress_each_other() -> None:
    first, second = [0, 0, 10, 10, 0.9, 0.1, 5, 6, 1], [0, 0, 10, 10, 0.1, 0.8, 5, 6, 1]
    (poses,) = PoseEngine(CannedNetwork([first, second], num_classes=2))([image(480, 640)])
    np.testing.assert_allclose(poses.scores, [0.9, 0.8])


def test_the_most_certain_people_stay() -> None:
    rows = [[100 * i, 0, 100 * i + 50, 50, 0.4 + i / 10, 0, 0, 0] for i in range(5)]
    (poses,) = PoseEngine(CannedNetwork(rows), max_people=2)([image(640, 640)])
    np.testing.assert_allclose(poses.scores, [0.8, 0.7])


def test_the_network_gets_rgb_between_0_and_1() -> None:
    network = CannedNetwork([PERSON])
    engine = PoseEngine(network)
    blue_first = np.zeros((64, 64, 3), np.uint8)
    blue_first[..., 0] = 255
    engine([blue_first, blue_first[..., ::-1]], channel_order=["bgr", "rgb"])
    assert len(network.inputs) == 2
    for batch in network.inputs:
        assert batch.shape == (1, 3, 640, 640)
        assert batch.dtype == torch.float32
        np.testing.assert_allclose(batch[:, :, 320, 320], [[0, 0, 1]])


def test_images_of_different_sizes_keep_their_order() -> None:
    engine = PoseEngine(CannedNetwork([PERSON]))
    sizes = [(720, 1280), (640, 640), (1440, 2560), (320, 320)]
    together = engine([image(*size) for size in sizes])
    alone = [engine([image(*size)])[0] for size in sizes]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)


def test_a_gpu_gets_images_of_one_input_size_as_one_batch() -> None:
    """On the CPU, as far as the same code runs there; with cuDNN switched on, but exact."""
    network = CannedNetwork([PERSON])
    engine = PoseEngine(network)
    engine._batches = True
    seen: list[tuple[bool, bool]] = []
    canned = network.__call__

    def call(batch: Tensor) -> list[tuple[Tensor, ...]]:
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
        return canned(batch)

    engine.network = _Called(network, call)
    sizes = [(720, 1280), (640, 640), (1440, 2560), (320, 320)]
    results = engine([image(*size) for size in sizes])
    assert [tuple(batch.shape) for batch in network.inputs] == [(2, 3, 384, 640), (2, 3, 640, 640)]
    np.testing.assert_allclose(results[2].boxes_xyxy, [[400, 400, 1200, 1200]])
    assert seen == [(True, False)] * 2


@pytest.mark.parametrize(
    ("width", "height", "reduction"),
    [
        *((640, 480, 1), (1279, 720, 1), (1280, 720, 2), (1920, 1080, 2), (1080, 1920, 2)),
        *((3840, 2160, 4), (8000, 8000, 8), (20_000, 15_000, 8), (1, 1, 1), (5000, 1, 1)),
    ],
)
def test_a_reduced_image_still_fills_its_place_in_the_input(
    width: int, height: int, reduction: int
) -> None:
    assert PoseEngine(CannedNetwork([PERSON])).largest_reduction(width, height) == reduction


def test_what_is_no_image_is_refused() -> None:
    engine = PoseEngine(CannedNetwork([PERSON]))
    wrong: list[Any] = [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), image(0, 4), "image.jpg"]
    for value in wrong:
        with pytest.raises(ImageError, match=r"expected an image \(H, W, 3\) of uint8"):
            engine([value])


def test_each_image_needs_its_channel_order() -> None:
    with pytest.raises(ValueError, match="2 images and 1 channel orders"):
        PoseEngine(CannedNetwork([PERSON]))([image(4, 4)] * 2, channel_order=["bgr"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"score_threshold": 1.5}, "score_threshold must be 0 to 1, got 1.5"),
        ({"iou_threshold": -0.1}, "iou_threshold must be 0 to 1"),
        ({"max_people": 0}, "max_people must be at least 1"),
        ({"image_size": 600}, "multiple of 32, the stride of this model, got 600"),
    ],
)
def test_settings_out_of_range_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        PoseEngine(CannedNetwork([PERSON]), **arguments)


def test_loading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a file nor a known model"):
        PoseEngine.load("yolo11x-pose-that-nobody-has")
    with pytest.raises(
        ValueError, match="backend must be one of auto, torch, openvino, onnxruntime, got 'tpu'"
    ):
        PoseEngine.load("model.pt", backend="tpu")
    with pytest.raises(DeviceError, match="got 'gpu'"):
        PoseEngine.load("model.pt", device="gpu")


def test_real_people_with_reference_detections(shared: Path, yolo11n_pose: Path) -> None:
    """The same picture at any size, padded or not, alone or in a batch, gives the same person."""
    engine = PoseEngine.load(yolo11n_pose, device="cpu")
    picture = read(shared / "data/coco/val2017/000000000785.jpg")
    wide = np.zeros((picture.shape[0], picture.shape[1] + 40, 3), np.uint8)
    wide[:, :-40] = picture
    double = cv2.resize(picture, None, fx=2, fy=2)
    alone = engine([picture])[0]
    padded_rows, doubled, rgb = engine(
        [wide[:, :-40], double, picture[..., ::-1]], channel_order=["bgr", "bgr", "rgb"]
    )
    assert len(alone) == 1
    np.testing.assert_allclose(alone.boxes_xyxy, [[280, 42.6, 495.4, 391]], atol=1)
    for other in (padded_rows, rgb):
        np.testing.assert_allclose(other.keypoints, alone.keypoints, atol=2e-3)
    np.testing.assert_allclose(doubled.boxes_xyxy / 2, alone.boxes_xyxy, atol=3)
    assert set(engine.stage_times) == {"preprocess", "network", "postprocess"}
    assert all(seconds > 0 for seconds in engine.stage_times.values())
    assert engine.device == "cpu"
    assert engine.device_description.startswith("CPU")
    assert engine.skeleton.name == "coco17"


@pytest.mark.gpu
def test_the_gpu_finds_the_same_people(shared: Path, yolo11n_pose: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("GPU missing: torch finds no CUDA device")
    picture = read(shared / "data/coco/val2017/000000000785.jpg")
    (expected,) = PoseEngine.load(yolo11n_pose, device="cpu")([picture])
    (exact,) = PoseEngine.load(yolo11n_pose, device="cuda")([picture])
    (half,) = PoseEngine.load(yolo11n_pose, device="cuda", half=True)([picture])
    np.testing.assert_allclose(exact.keypoints, expected.keypoints, atol=5e-3)
    np.testing.assert_allclose(half.boxes_xyxy, expected.boxes_xyxy, atol=1)
    certain = expected.keypoints[..., 2] > 0.5
    np.testing.assert_allclose(half.keypoints[certain], expected.keypoints[certain], atol=1)


def test_only_wanted_classes_stay() -> None:
    dog, person = [0, 0, 10, 10, 0.9, 0.1, 5, 6, 1], [0, 0, 10, 10, 0.1, 0.8, 5, 6, 1]
    network = CannedNetwork([dog, person], num_classes=2)
    network.class_names = ("dog", "person")
    for classes in (["person"], [1], ["1"], ["1", "person"]):
        (poses,) = PoseEngine(network, classes=classes)([image(480, 640)])
        np.testing.assert_allclose(poses.scores, [0.8])
    with pytest.raises(ValueError, match=r"the model's 2 classes: dog, person, got 'cat'"):
        PoseEngine(network, classes=["cat"])
    with pytest.raises(ValueError, match="at least one class"):
        PoseEngine(network, classes=[])


def test_rows_of_an_end_to_end_network_are_not_suppressed() -> None:
    network = CannedNetwork([DUPLICATE, PERSON, WEAK])
    network.end_to_end = True
    (poses,) = PoseEngine(network)([image(720, 1280)])
    np.testing.assert_allclose(poses.scores, [0.9, 0.8])
    (poses,) = PoseEngine(network, max_people=1)([image(720, 1280)])
    np.testing.assert_allclose(poses.scores, [0.9])


def test_images_are_prepared_as_the_network_wants() -> None:
    network = CannedNetwork([PERSON])
    network.preprocessing = Preprocessing("bgr", scale=1.0, centred=False, square=True)
    picture = image(360, 640)
    picture[..., 0] = 200  # blue
    (poses,) = PoseEngine(network)([picture])
    (batch,) = network.inputs
    assert batch.shape == (1, 3, 640, 640)
    assert batch[0, :, 0, 0].tolist() == [200, 0, 0]
    assert batch[0, :, 639, 0].tolist() == [114, 114, 114]
    np.testing.assert_allclose(poses.boxes_xyxy, [[100, 112, 300, 312]])


def test_a_network_of_fixed_size_decides_the_size() -> None:
    network = CannedNetwork([PERSON])
    network.input_size = (192, 320)
    engine = PoseEngine(network, image_size=640)
    engine([image(480, 640)])
    assert engine.image_size == 320
    assert network.inputs[0].shape == (1, 3, 192, 320)


def test_a_skeleton_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="the model has 1 keypoints, skeleton 'coco17' has 17"):
        PoseEngine(CannedNetwork([PERSON]), skeleton=COCO17)
    named = Skeleton("nose", ("nose",), (), (0,), (0.026,))
    assert PoseEngine(CannedNetwork([PERSON]), skeleton=named).skeleton is named


def test_rows_that_are_no_numbers_are_dropped() -> None:
    infinite = [0, 0, float("inf"), 10, 0.9, 0, 0, 0]
    missing = [0, 0, 10, 10, 0.9, float("nan"), 0, 0]
    huge = [-3e38, -3e38, 3e38, 3e38, 0.95, 0, 0, 0]
    (poses,) = PoseEngine(CannedNetwork([infinite, missing, huge, PERSON]))([image(720, 1280)])
    np.testing.assert_allclose(poses.scores, [0.9])
