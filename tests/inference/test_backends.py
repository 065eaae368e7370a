"""The same people whatever runs the network; what it needs is exported once, into the cache."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pose_node import PoseEngine
from pose_node.errors import CheckpointError, DeviceError, OutputError, PoseNodeError
from pose_node.inference import backends
from pose_node.inference.backends import candidates, exported_path
from pose_node.process_settings import available_processors

CPU = torch.device("cpu")


@pytest.fixture
def model(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small network with random weights, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shared / "fixtures/ul_yolo11_tiny_pose.pt"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the package logs; other packages change how loggers pass on what they get."""
    lines: list[str] = []
    logger, handler = logging.getLogger("pose_node"), logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(record.getMessage()))
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(scope="module")
def image(shared: Path) -> np.ndarray:
    found = cv2.imread(str(sorted((shared / "data/coco").rglob("*.jpg"))[0]))
    assert found is not None
    return found


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_same_people_as_torch(
    backend: str,
    yolo11n_pose: Path,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for package in backends._PACKAGES[backend]:
        pytest.importorskip(package, reason=f"{package} missing: pip install {package}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    expected = PoseEngine.load(yolo11n_pose)
    engine = PoseEngine.load(yolo11n_pose, backend=backend, threads=1)
    assert (engine.backend, expected.backend) == (backend, "torch")
    file = exported_path(yolo11n_pose, backend)
    written = file.stat().st_mtime_ns
    images = [cv2.imread(str(path)) for path in sorted((shared / "data/coco").rglob("*.jpg"))[:8]]
    assert sum(len(people) for people in expected(images)) > 8
    for image, ours, theirs in zip(images, engine(images), expected(images), strict=True):
        assert len(ours) == len(theirs), image.shape
        np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=5e-3)
        np.testing.assert_allclose(ours.keypoints[..., :2], theirs.keypoints[..., :2], atol=5e-3)
        np.testing.assert_allclose(ours.keypoints[..., 2], theirs.keypoints[..., 2], atol=1e-4)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)

    PoseEngine.load(yolo11n_pose, backend=backend)
    assert file.stat().st_mtime_ns == written, "it was exported again"


def test_a_damaged_file_is_made_again(model: Path, image: np.ndarray, logged: list[str]) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime missing: pip install onnxruntime")
    pytest.importorskip("onnx", reason="onnx missing: pip install onnx")
    file = exported_path(model, "onnxruntime")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half of it")
    engine = PoseEngine.load(model, backend="onnxruntime", image_size=128)
    assert engine.backend == "onnxruntime"
    assert any(f"{file} is made again" in line for line in logged)
    engine([image])


def test_a_backend_that_fails(
    model: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str], tmp_path: Path
) -> None:
    """`auto` goes on with the next and says so; who asks for a backend by name gets the error."""
    (tmp_path / "cache").write_text("a file in the place of the folder")
    monkeypatch.setattr(backends, "candidates", lambda _: ("onnxruntime",))
    assert PoseEngine.load(model, backend="auto", image_size=128).backend == "torch"
    expected = "backend onnxruntime cannot run ul_yolo11_tiny_pose.pt: cannot write"
    assert any(line.startswith(expected) for line in logged)
    with pytest.raises(OutputError, match=r"cannot write .*exported: File exists"):
        PoseEngine.load(model, backend="onnxruntime", image_size=128)


def test_the_fastest_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"openvino", "onnx", "onnxruntime"}
    monkeypatch.setattr(backends, "_is_installed", lambda package: package in installed)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert candidates(CPU) == ("openvino", "onnxruntime")
    assert candidates(torch.device("cuda:0")) == ()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert candidates(CPU) == ("onnxruntime",)
    installed.remove("onnx")
    assert candidates(CPU) == ()


def test_the_cache_knows_what_it_holds(model: Path, tmp_path: Path) -> None:
    other = tmp_path / model.name
    other.write_bytes(model.read_bytes() + b"\0")
    paths = {
        exported_path(model, "openvino"),
        exported_path(model, "onnxruntime"),
        exported_path(other, "openvino"),
        exported_path(model, "openvino", end_to_end=True),
    }
    assert len(paths) == 4
    with pytest.raises(CheckpointError, match=r"cannot read .*none\.pt: No such file"):
        exported_path(tmp_path / "none.pt", "openvino")


def test_arguments_that_do_not_go_together(model: Path, shared: Path) -> None:
    exported = shared / "fixtures/ul_yolo11_tiny_pose.onnx"
    with pytest.raises(ValueError, match="is run by onnxruntime, backend 'openvino' cannot read"):
        PoseEngine.load(exported, backend="openvino")
    with pytest.raises(ValueError, match="onnx_layout is for exported networks"):
        PoseEngine.load(model, backend="openvino", onnx_layout="ultralytics")
    with pytest.raises(ValueError, match="half goes with backend 'torch' only, got 'openvino'"):
        backends.prepare(model, backend="openvino", device=torch.device("cuda:0"), half=True)


def test_openvino_runs_on_the_cpu_only(model: Path) -> None:
    pytest.importorskip("openvino", reason="openvino missing: pip install openvino")
    with pytest.raises(DeviceError, match="cannot be used for OpenVINO files"):
        backends.prepare(model, backend="openvino", device=torch.device("cuda:0"))


def test_a_package_that_is_missing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(PoseNodeError, match=r"pip install 'pose-node\[openvino\]'"):
        PoseEngine.load(model, backend="openvino")


def test_threads(model: Path) -> None:
    before = torch.get_num_threads()
    try:
        PoseEngine.load(model, image_size=128, threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    most = available_processors()
    with pytest.raises(ValueError, match=f"threads must be 1 to {most}, .* got {most + 1}"):
        PoseEngine.load(model, threads=most + 1)
    with pytest.raises(ValueError, match="got 0"):
        PoseEngine.load(model, threads=0)


def test_a_first_export_is_announced(model: Path, logged: list[str]) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime missing: pip install onnxruntime")
    pytest.importorskip("onnx", reason="onnx missing: pip install onnx")
    PoseEngine.load(model, backend="onnxruntime", image_size=128)
    assert any("exporting ul_yolo11_tiny_pose.pt for onnxruntime, once" in line for line in logged)


def test_cache_that_anybody_may_write_to(model: Path, tmp_path: Path) -> None:
    folder = exported_path(model, "onnxruntime").parent
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(CheckpointError, match=f"read from the cache: .*chmod o-w {folder}`"):
        PoseEngine.load(model, device="cpu", backend="onnxruntime")
