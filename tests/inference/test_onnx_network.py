"""ONNX files run like networks of our own, and those that cannot are refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pose_node.errors import CheckpointError, DeviceError, PoseNodeError
from pose_node.inference.nms import non_maximum_suppression
from pose_node.inference.onnx_network import load_onnx

onnx = pytest.importorskip("onnx", reason="onnx missing: pip install onnx")
pytest.importorskip("onnxruntime", reason="ONNX Runtime missing: pip install onnxruntime")

PIXELS, SCORE = 5e-3, 1e-4  # largest allowed difference of coordinates and of scores
SCORES = [4, *range(7, 56, 3)]  # columns


def assert_rows_equal(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare rows (N, 56)."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found[:, SCORES], expected[:, SCORES], rtol=0, atol=SCORE)
    places = np.setdiff1d(np.arange(56), SCORES)
    np.testing.assert_allclose(found[:, places], expected[:, places], rtol=0, atol=PIXELS)


def our_rows(expected: np.ndarray, *, classes: bool, logits: bool) -> np.ndarray:
    """Decoded rows (A, 56 or 57) of a reference: corners, score, keypoints."""
    centre, size = expected[:, :2], expected[:, 2:4]
    score = expected[:, 4:5] * expected[:, 5:6] if classes else expected[:, 4:5]
    keypoints = expected[:, 5 + classes :].copy()
    if logits:
        keypoints[:, 2::3] = 1 / (1 + np.exp(-keypoints[:, 2::3].astype(np.float64)))
    return np.concatenate((centre - size / 2, centre + size / 2, score, keypoints), 1)


@pytest.mark.parametrize(
    ("file", "reference", "layout", "family", "strides", "overlap"),
    [
        ("ul_yolo11_tiny_pose", "", "ultralytics", "yolo11", (32,), 0.7),
        ("y5_s6_tiny_pose_raw", "y5_s6_tiny_pose", "yolov5-maps", "yolov5", (8, 16, 32, 64), 0.45),
        ("y7_w6_tiny_pose_grid", "y7_w6_tiny_pose", "yolov5-rows", "yolov5", (8, 16, 32, 64), 0.45),
        (
            *("yx_tiny_human_pose_raw_output", "yx_tiny_human_pose", "yolox-rows", "yolox"),
            *((8, 16, 32), 0.45),
        ),
    ],
)
def test_parity(
    shared: Path,
    file: str,
    reference: str,
    layout: str,
    family: str,
    strides: tuple[int, ...],
    overlap: float,
) -> None:
    network = load_onnx(shared / f"fixtures/{file}.onnx")
    assert (network.layout, network.family, network.strides) == (layout, family, strides)
    assert (network.num_classes, network.num_keypoints, network.keypoint_dimensions) == (1, 17, 3)
    assert (network.stride, network.input_size) == (max(strides), (128, 128))
    assert not network.end_to_end
    expected = np.load(shared / f"fixtures/{reference or file}.npz")
    raw = network(torch.from_numpy(expected["sq_input"]))
    outputs = np.load(shared / "fixtures/onnx_expected.npz")
    for index, tensor in enumerate(raw[0].tensors):
        np.testing.assert_allclose(tensor, outputs[f"{file}__{index}"], rtol=0, atol=1e-3)
    rows = network.decode(raw)[0].numpy()
    decoded = expected["sq_decoded"][0]
    if layout == "ultralytics":
        decoded = decoded.T
    yolox = family == "yolox"
    assert_rows_equal(rows, our_rows(decoded, classes=layout != "ultralytics", logits=yolox))
    assert network.preprocessing.channel_order == ("bgr" if yolox else "rgb")

    people = expected["sq_nms_0"].copy()
    if yolox:  # objectness and class apart, the keypoints' scores as logits
        people[:, 4] *= people[:, 5]
        people = np.delete(people, 5, 1)
        people[:, 8::3] = 1 / (1 + np.exp(-people[:, 8::3].astype(np.float64)))
    rows = rows[rows[:, 4] > 0.25]
    classes = np.zeros(len(rows), np.int64)
    kept = non_maximum_suppression(
        rows[:, :4], rows[:, 4], classes, iou_threshold=overlap, max_kept=300
    )
    assert_rows_equal(rows[kept], np.delete(people, 5, 1))


@pytest.mark.parametrize(
    ("file", "reference", "key"),
    [
        ("ul_yolo11_tiny_pose_nms", "ul_yolo11_tiny_pose", "sq_nms_0"),
        ("ul_yolo26_tiny_pose_e2e", "ul_yolo26_tiny_pose", "sq_e2e_conf25_0"),
    ],
)
def test_parity_of_final_rows(shared: Path, file: str, reference: str, key: str) -> None:
    network = load_onnx(shared / f"fixtures/{file}.onnx")
    assert (network.layout, network.end_to_end) == ("ultralytics-final", True)
    assert network.class_names == ("person",)
    expected = np.load(shared / f"fixtures/{reference}.npz")
    rows = network.decode(network(torch.from_numpy(expected["sq_input"])))[0].numpy()
    assert_rows_equal(rows[rows[:, 4] > 0.25], np.delete(expected[key], 5, 1))


def test_a_file_for_one_image_runs_once_for_each(shared: Path) -> None:
    network = load_onnx(shared / "fixtures/ul_yolo11_tiny_pose.onnx", threads=1)
    image = torch.from_numpy(np.load(shared / "fixtures/ul_yolo11_tiny_pose.npz")["sq_input"])
    both = network.decode(network(torch.cat((image, image.flip(3)))))
    assert both.shape == (2, 336, 56)
    for index, one in enumerate((image, image.flip(3))):
        torch.testing.assert_close(both[index : index + 1], network.decode(network(one)))
    assert not torch.equal(both[0], both[1])


def test_a_file_for_several_images_is_filled_up(make_onnx: Any) -> None:
    answer = np.random.default_rng(1).random((2, 56, 336), np.float32)
    network = load_onnx(make_onnx({"o": answer}, inputs={"i": (2, 3, 128, 128)}))
    rows = network.decode(network(torch.zeros(3, 3, 128, 128)))
    assert rows.shape == (3, 336, 56)
    torch.testing.assert_close(rows[0], rows[2])


def test_any_size(make_onnx: Any) -> None:
    """The answer is the same for every size, but its number is right for the size of the trial."""
    answer = np.random.default_rng(1).random((1, 56, 504), np.float32)
    sizes = {"images": ("batch", 3, "height", "width")}
    network = load_onnx(make_onnx({"output0": answer}, inputs=sizes))
    assert network.input_size is None
    assert network.strides == (8, 16, 32)
    assert network.decode(network(torch.zeros(1, 3, 64, 64))).shape == (1, 504, 56)


def test_half_precision_file(make_onnx: Any) -> None:
    answer = np.random.default_rng(1).random((1, 56, 336)).astype(np.float16)
    network = load_onnx(make_onnx({"output0": answer}, input_type="FLOAT16"))
    rows = network.decode(network(torch.zeros(1, 3, 128, 128)))
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows[0, :, 4:], torch.from_numpy(answer[0, 4:].T).float())


def test_detections_need_to_be_told_apart(shared: Path, make_onnx: Any) -> None:
    expected = np.load(shared / "fixtures/onnx_expected.npz")
    path = make_onnx({"detections": expected["yx_tiny_human_pose_detections__0"]})
    with pytest.raises(CheckpointError, match="yolov5-detections or yolox-detections; say which"):
        load_onnx(path)
    network = load_onnx(path, layout="yolox-detections")
    assert (network.family, network.end_to_end) == ("yolox", True)
    rows = network.decode(network(torch.zeros(2, 3, 128, 128)))
    assert rows.shape == (2, 334, 56)
    assert 0 <= rows[..., SCORES].min() <= rows[..., SCORES].max() <= 1
    with pytest.raises(CheckpointError, match="the layout must be one of"):
        load_onnx(path, layout="yolov9")


def test_different_numbers_of_detections_are_filled_with_zeros(make_onnx: Any) -> None:
    answer = np.ones((2, 57), np.float32)
    network = load_onnx(make_onnx({"d": answer}), layout="yolov5-detections")
    one, two = network(torch.zeros(2, 3, 128, 128))
    rows = network.decode([one._replace(tensors=(one.tensors[0][:1],)), two])
    assert rows.shape == (2, 2, 56)
    assert rows[0, 1].tolist() == [0] * 56


NAN = np.full((1, 56, 336), np.nan, np.float32)
LARGE = np.full((1, 56, 336), 100, np.float32)


@pytest.mark.parametrize(
    ("outputs", "settings", "text"),
    [
        ({"o": NAN}, {}, "it gives numbers that are not finite"),
        ({"o": LARGE}, {}, "its scores lie between 100 and 100, expected 0 to 1"),
        ({"o": LARGE[:, :, :9]}, {}, "is no layout of a pose model"),
        ({"o": LARGE}, {"inputs": {"i": (1, 3, 128)}}, "expected one input of float32"),
        ({"o": LARGE}, {"inputs": {"i": (1, 128, 128, 3)}}, "expected one input of float32"),
        ({"o": LARGE}, {"input_type": "INT64"}, r"the first of tensor\(int64\)"),
        ({"o": LARGE}, {"inputs": {}, "metadata": {"stride": "x"}}, "'stride' is no Python"),
        ({"o": LARGE}, {"metadata": {"task": "detect"}}, "expected one for 'pose'"),
        (
            {"o": LARGE},
            {"inputs": {"a": (1, 3, 64, 64), "b": (1, 3, 64, 64)}},
            "expected one input .*, got 2",
        ),
        ({"o": LARGE}, {"inputs": {"i": (1, 3, 128, "width")}}, "both fixed or both free"),
        ({"o": LARGE}, {"inputs": {"i": (1, 3, 99999, 64)}}, "at most 256 images, 8192 pixels a"),
        ({"o": LARGE}, {"inputs": {"i": (256, 3, 8192, 8192)}}, "and 67108864 in all"),
        ({"o": LARGE / 200}, {"inputs": {"i": (2, 3, 128, 128)}}, "results of 1 images for 2"),
        ({"o": np.array(["a"])}, {}, "not a tensor|expected tensors|is no layout|float"),
    ],
)
def test_files_that_are_refused(
    make_onnx: Any, outputs: dict[str, np.ndarray], settings: dict[str, Any], text: str
) -> None:
    path = make_onnx(outputs, **settings)
    with pytest.raises(CheckpointError, match=text) as error:
        load_onnx(path)
    assert str(path) in str(error.value)


def test_files_that_are_none(shared: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    content = bytearray((shared / "fixtures/ul_yolo11_tiny_pose.onnx").read_bytes())
    content[40:4000] = bytes(3960)
    damaged.write_bytes(content)
    text = tmp_path / "text.onnx"
    text.write_text("hello")
    empty_model = tmp_path / "empty.onnx"
    empty_model.write_bytes(onnx.ModelProto(ir_version=8).SerializeToString())
    for path in (damaged, text, empty_model, tmp_path / "missing.onnx"):
        with pytest.raises(CheckpointError, match=re.escape(f"cannot read {path}: ")):
            load_onnx(path)


def test_an_input_that_does_not_fit(shared: Path) -> None:
    path = shared / "fixtures/ul_yolo11_tiny_pose.onnx"
    with pytest.raises(CheckpointError, match=r"cannot run .* on an input of \(1, 3, 64, 64\)"):
        load_onnx(path)(torch.zeros(1, 3, 64, 64))


def test_device_that_the_runtime_does_not_have(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="has CPUExecutionProvider; `pip install onnxruntime-gpu"):
        load_onnx(shared / "fixtures/ul_yolo11_tiny_pose.onnx", device="cuda")


def test_runtime_that_falls_back_to_the_cpu(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    session = onnxruntime.InferenceSession

    def fall_back(*arguments: Any, providers: list[Any], **options: Any) -> Any:
        assert providers[0] == ("CUDAExecutionProvider", {"device_id": 1, "use_tf32": 0})
        return session(*arguments, providers=providers[1:], **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    with pytest.raises(DeviceError, match=r"the CUDA part of ONNX Runtime .* does not start"):
        load_onnx(shared / "fixtures/ul_yolo11_tiny_pose.onnx", device="cuda:1")


def test_runtime_missing(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PoseNodeError, match=r"pip install 'pose-node\[onnx\]'"):
        load_onnx(shared / "fixtures/ul_yolo11_tiny_pose.onnx")
