"""The same people whatever runs the network; what it needs is exported once, into the cache."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pose_node import PoseEngine
from pose_node.errors import CheckpointError, DeviceError, OutputError, PoseNodeError
from pose_node.inference import backends
from pose_node.inference.backends import candidates, choose_device, exported_path
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
    assert engine.device_description == "CPU, 1 thread"
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

    # A size that comes again and again is run by a program of its own.
    image = images[0]
    first = engine([image])[0]
    for _ in range(6):
        again = engine([image])[0]
    if backend == "openvino":
        assert engine.network._programs  # type: ignore[attr-defined]
    np.testing.assert_allclose(again.keypoints, first.keypoints, atol=5e-3)
    np.testing.assert_allclose(again.scores, first.scores, atol=1e-4)

    PoseEngine.load(yolo11n_pose, backend=backend)
    assert file.stat().st_mtime_ns == written, "it was exported again"


def test_in_16_bits_nearly_the_same_people(
    yolo11n_pose: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino missing: pip install openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engine = PoseEngine.load(yolo11n_pose, device="cpu", backend="auto", half=True)
    exact = PoseEngine.load(yolo11n_pose, device="cpu", backend="openvino")
    assert (engine.backend, engine.half, exact.half) == ("openvino", True, False)
    images = [cv2.imread(str(path)) for path in sorted((shared / "data/coco").rglob("*.jpg"))[:24]]
    apart: list[float] = []
    for ours, theirs in zip(engine(images), exact(images), strict=True):
        for person in np.flatnonzero(theirs.scores > 0.5):
            away = np.abs(ours.boxes_xyxy - theirs.boxes_xyxy[person]).max(axis=1)
            nearest = int(away.argmin())
            assert away[nearest] < 8
            assert ours.scores[nearest] == pytest.approx(theirs.scores[person], abs=0.05)
            seen = theirs.keypoints[person][:, 2] > 0.5
            moved = ours.keypoints[nearest][seen, :2] - theirs.keypoints[person][seen, :2]
            apart += np.linalg.norm(moved, axis=1).tolist()
    assert len(apart) > 200
    assert 0.01 < np.median(apart) < 0.5  # it did compute otherwise
    assert np.percentile(apart, 95) < 1.5


def test_16_bits_need_a_processor_that_has_them(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino missing: pip install openvino")
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    message = "half needs a processor with bfloat16 .*, this one has FP32, INT8; unset half"
    with pytest.raises(ValueError, match=message):
        PoseEngine.load(model, device="cpu", backend="auto", half=True)
    assert not exported_path(model, "openvino").exists(), "refused before anything is done"


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_damaged_file_is_made_again(model: Path, logged: list[str], backend: str) -> None:
    """Also one that would run: a page of zeros among the weights moves people by pixels."""
    for package in backends._PACKAGES[backend]:
        pytest.importorskip(package, reason=f"{package} missing: pip install {package}")
    file = exported_path(model, backend)
    PoseEngine.load(model, backend=backend, image_size=128)
    assert not any("is made again" in line for line in logged)
    weights = file.with_suffix(".bin") if backend == "openvino" else file
    whole = weights.read_bytes()
    middle = len(whole) // 2
    weights.write_bytes(whole[:middle] + bytes(1024) + whole[middle + 1024 :])
    assert weights.read_bytes() != whole
    engine = PoseEngine.load(model, backend=backend, image_size=128)
    assert engine.backend == backend
    assert any(f"{file} is made again" in line for line in logged)
    assert weights.stat().st_size == len(whole)
    logged.clear()
    PoseEngine.load(model, backend=backend, image_size=128)
    assert not any("again" in line or "exporting" in line for line in logged)


def test_what_a_killed_process_left_is_removed(model: Path) -> None:
    for package in backends._PACKAGES["onnxruntime"]:
        pytest.importorskip(package, reason=f"{package} missing: pip install {package}")
    file = exported_path(model, "onnxruntime")
    left_over = file.with_name(f".{file.name}.abcdef")
    left_over.mkdir(parents=True)
    (left_over / file.name).write_bytes(b"half of it")
    PoseEngine.load(model, backend="onnxruntime", image_size=128)
    found = sorted(path.name for path in file.parent.iterdir())
    assert found == [f".{file.name}.lock", file.name, f"{file.name}.sha256"]


def test_two_at_once_export_once(model: Path, logged: list[str]) -> None:
    for package in backends._PACKAGES["onnxruntime"]:
        pytest.importorskip(package, reason=f"{package} missing: pip install {package}")
    with ThreadPoolExecutor(2) as threads:
        loads = [
            threads.submit(PoseEngine.load, model, backend="onnxruntime", image_size=128)
            for _ in range(2)
        ]
    assert [load.result().backend for load in loads] == ["onnxruntime"] * 2
    assert sum(line.startswith("exporting") for line in logged) == 1


def test_a_model_that_changes_meanwhile(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """What is exported from other weights must not get the name of these."""
    for package in backends._PACKAGES["onnxruntime"]:
        pytest.importorskip(package, reason=f"{package} missing: pip install {package}")
    copy = tmp_path / model.name
    copy.write_bytes(model.read_bytes())
    load = backends.load_network

    def load_and_change(path: Path, **options: Any) -> Any:
        network = load(path, **options)
        path.write_bytes(path.read_bytes() + b"\0")
        return network

    monkeypatch.setattr(backends, "load_network", load_and_change)
    with pytest.raises(CheckpointError, match="was changed while it was being read"):
        PoseEngine.load(copy, backend="onnxruntime", image_size=128)
    assert not list((tmp_path / "cache").rglob("*.onnx"))


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


def test_the_cache_knows_what_it_holds(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / model.name
    other.write_bytes(model.read_bytes() + b"\0")
    paths = {
        exported_path(model, "openvino"),
        exported_path(model, "onnxruntime"),
        exported_path(other, "openvino"),
        exported_path(model, "openvino", end_to_end=True),
    }
    assert len(paths) == 4
    monkeypatch.setattr(backends, "_code_digest", lambda: "of other modules")
    assert exported_path(model, "openvino") not in paths
    with pytest.raises(CheckpointError, match=r"cannot read .*none\.pt: No such file"):
        exported_path(tmp_path / "none.pt", "openvino")


def test_arguments_that_do_not_go_together(model: Path, shared: Path) -> None:
    exported = shared / "fixtures/ul_yolo11_tiny_pose.onnx"
    with pytest.raises(ValueError, match="is run by onnxruntime, backend 'openvino' cannot read"):
        PoseEngine.load(exported, backend="openvino")
    with pytest.raises(ValueError, match="onnx_layout is for exported networks"):
        PoseEngine.load(model, backend="openvino", onnx_layout="ultralytics")
    with pytest.raises(ValueError, match="half on a GPU goes with backend 'torch' only, got 'open"):
        backends.prepare(model, backend="openvino", device=torch.device("cuda:0"), half=True)
    for other in ("torch", "onnxruntime"):
        message = f"half on the CPU goes with backend 'openvino' only, got '{other}'; unset half"
        with pytest.raises(ValueError, match=message):
            PoseEngine.load(model, backend=other, device="cpu", half=True)


def test_openvino_runs_on_the_cpu_only(model: Path) -> None:
    pytest.importorskip("openvino", reason="openvino missing: pip install openvino")
    with pytest.raises(DeviceError, match="cannot be used for OpenVINO files"):
        backends.prepare(model, backend="openvino", device=torch.device("cuda:0"))
    assert not exported_path(model, "openvino").exists()


@pytest.mark.parametrize(
    ("name", "package"), [("ul_yolo11_tiny_pose.onnx", "onnxruntime"), ("tiny.xml", "openvino")]
)
def test_beside_a_gpu_auto_is_the_cpu_for_what_runs_only_there(
    shared: Path, model: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    runtime = pytest.importorskip(package, reason=f"{package} missing: pip install {package}")
    if "CUDAExecutionProvider" in getattr(runtime, "get_available_providers", list)():
        pytest.skip("this ONNX Runtime uses the GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    gpu, path = torch.device("cuda:0"), shared / "fixtures" / name
    assert choose_device("auto", path, "auto") == CPU
    assert choose_device("auto", model, package) == CPU
    assert choose_device("auto", model, "auto") == choose_device("auto", model, "torch") == gpu
    assert choose_device("cuda", path, "auto") == gpu  # which is an error then
    if path.is_file():
        assert PoseEngine.load(path).device == "cpu"
        with pytest.raises(DeviceError, match="device 'cuda:0' cannot be used for ONNX files"):
            PoseEngine.load(path, device="cuda")


def test_a_package_that_is_missing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(PoseNodeError, match=r"pip install 'pose-node\[openvino\]'"):
        PoseEngine.load(model, backend="openvino")


def test_threads(model: Path) -> None:
    before = torch.get_num_threads()
    try:
        PoseEngine.load(model, image_size=128, threads=1)
        assert torch.get_num_threads() == 1
        PoseEngine.load(model, image_size=128)
        assert torch.get_num_threads() == before
        if before > 1:
            torch.set_num_threads(1)  # by somebody else, who wants it so
            PoseEngine.load(model, image_size=128)
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
