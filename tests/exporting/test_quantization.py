"""Networks with numbers of 8 bits: on which images they are measured, and what they still find."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose_node import PoseEngine
from pose_node.errors import OutputError, PoseNodeError, SourceError
from pose_node.exporting.quantization import (
    FEWEST_IMAGES,
    calibration_inputs,
    quantize_openvino,
)
from pose_node.models.preprocessing import Preprocessing


def greys(count: int) -> Iterator[np.ndarray]:
    for value in range(count):
        yield np.full((30, 60, 3), value % 256, np.uint8)


def test_images_are_picked_at_random_and_always_the_same() -> None:
    def pick(count: int) -> list[int]:
        inputs = calibration_inputs(
            greys(200), Preprocessing(), stride=32, image_size=(64, 64), dynamic=False, count=count
        )
        return [int(pixels[0, 32, 32, 0]) for pixels in inputs]

    few = pick(20)
    assert len(set(few)) == 20
    assert few == pick(20)
    assert max(few) > 100 > min(few), "they come from everywhere, not from the start alone"
    assert sorted(pick(200)) == list(range(200))


@pytest.mark.parametrize(
    ("dynamic", "square", "size"), [(True, False, (32, 64)), (False, False, (64, 64))]
)
def test_images_fit_the_input(dynamic: bool, square: bool, size: tuple[int, int]) -> None:
    blue = np.full((30, 60, 3), (255, 0, 0), np.uint8)
    inputs = calibration_inputs(
        [blue] * FEWEST_IMAGES,
        Preprocessing(square=square),
        stride=32,
        image_size=(64, 64),
        dynamic=dynamic,
    )
    assert inputs[0].shape == (1, *size, 3)
    assert inputs[0][0, size[0] // 2, 32].tolist() == [0, 0, 255]


def test_too_few_images() -> None:
    with pytest.raises(SourceError, match=r"need at least 10 images .* got 3"):
        calibration_inputs(greys(3), Preprocessing(), stride=32, image_size=(64, 64), dynamic=False)


def test_packages_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(PoseNodeError, match=r"pip install 'pose-node\[int8\]'"):
        quantize_openvino(tmp_path / "a.xml", tmp_path / "b.xml", [], scale=1.0)


def test_the_command_writes_a_network_that_finds_the_same_people(
    yolo11n_pose: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pose_node import cli

    for package in ("openvino", "nncf"):
        pytest.importorskip(package, reason=f"{package} missing: pip install {package}")
    images = sorted((shared / "data/coco/val2017").glob("*.jpg"))[:FEWEST_IMAGES]
    output = tmp_path / "small.xml"
    command = ["export", str(yolo11n_pose), "--dynamic", "--check-image", str(images[0])]
    command += ["--image-size", "320", "--output", str(output)]
    assert cli.main([*command, "--int8", *map(str, images)]) == 0
    assert "8 bits, measured on 10 images" in capsys.readouterr().out
    assert output.with_suffix(".bin").stat().st_size < 0.6 * yolo11n_pose.stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.bin", "small.xml"]

    engine = PoseEngine.load(output, image_size=320)
    exact = PoseEngine.load(yolo11n_pose, image_size=320)
    assert engine.network.class_names == exact.network.class_names == ("person",)
    video = cv2.VideoCapture(str(shared / "data/videos/juggle.mp4"))
    image = video.read()[1]
    ours, theirs = engine([image])[0], exact([image])[0]
    assert len(ours) == len(theirs) == 1
    height = theirs.boxes_xyxy[0, 3] - theirs.boxes_xyxy[0, 1]
    seen = theirs.keypoints[0, :, 2] > 0.8
    gaps = np.linalg.norm((ours.keypoints - theirs.keypoints)[0, seen, :2], axis=1)
    assert seen.sum() > 8
    assert np.median(gaps) < 0.02 * height
    assert not np.array_equal(ours.keypoints, theirs.keypoints)


def test_what_cannot_be_written(shared: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino missing: pip install openvino")
    pytest.importorskip("nncf", reason="nncf missing: pip install nncf")
    model = openvino.Core().read_model(shared / "fixtures/ul_yolo11_tiny_pose.onnx")
    openvino.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    wrong = [np.zeros((1, 32, 32, 3), np.uint8)] * FEWEST_IMAGES  # the model takes 128 x 128
    with pytest.raises(OutputError, match=r"cannot write .*small\.xml with 8 bits: "):
        quantize_openvino(tmp_path / "model.xml", tmp_path / "small.xml", wrong, scale=1 / 255)
    right = [np.zeros((1, 128, 128, 3), np.uint8)] * FEWEST_IMAGES
    with pytest.raises(OutputError, match=r"cannot write .*none/small\.xml: No such file"):
        quantize_openvino(tmp_path / "model.xml", tmp_path / "none/small.xml", right, scale=1 / 255)
    assert not list(tmp_path.glob("*small*"))
