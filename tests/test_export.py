"""Networks written for other programs: complete and exact, or not at all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pose_node import PoseEngine, export
from pose_node.errors import OutputError, PoseNodeError
from pose_node.export import Export, export_network
from pose_node.exporting import writers
from pose_node.exporting.graph import ExportedGraph
from pose_node.inference.networks import load_exported
from pose_node.models import PoseNetwork, load_network

pytest.importorskip("onnx", reason="onnx missing: pip install onnx")
pytest.importorskip("onnxruntime", reason="ONNX Runtime missing: pip install onnxruntime")
pytest.importorskip("openvino", reason="OpenVINO missing: pip install openvino")

TINY = "ul_yolo11_tiny_pose.pt"
PICTURE = Path(__file__).resolve().parents[1] / "docs/annotated.jpg"
SIZE = (128, 192)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks as small as these are slower with several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def picture(shared: Path) -> np.ndarray:
    """A picture as the random networks know them: on others their numbers grow beyond all sense."""
    pixels = np.load(shared / "fixtures/ul_yolo11_tiny_pose.npz")["rect_input"][0]
    return np.ascontiguousarray((pixels.transpose(1, 2, 0)[..., ::-1] * 255).astype(np.uint8))


@pytest.fixture
def tiny(shared: Path) -> Callable[..., PoseNetwork]:
    def load(file: str = TINY, **options: Any) -> PoseNetwork:
        return load_network(shared / "fixtures" / file, **options)

    return load


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("file", "options"),
    [
        (TINY, {}),
        ("ul_yolo26_tiny_pose.pt", {}),
        ("ul_yolo26_tiny_pose.pt", {"end_to_end": True}),
        ("y5_s6_tiny_pose.pt", {}),
        ("y7_w6_tiny_pose.pt", {}),
        ("yx_tiny_human_pose.pth", {}),
    ],
)
def test_every_family_to_onnx_and_back(
    tiny: Callable[..., PoseNetwork],
    shared: Path,
    picture: np.ndarray,
    tmp_path: Path,
    file: str,
    options: dict[str, Any],
) -> None:
    network = tiny(file, **options)
    path = tmp_path / "model.onnx"
    # Random weights place keypoints thousands of pixels away, where float32 has few decimals left.
    done = export_network(
        network, path, check_image=picture, image_size=SIZE, dynamic=True, pixel_tolerance=5e-3
    )
    assert files_in(tmp_path) == ["model.onnx"]
    assert done.path == path
    assert done.difference.sizes == ((192, 128), (128, 64))
    back = load_exported(path)
    for name in ("family", "num_classes", "num_keypoints", "keypoint_dimensions", "end_to_end"):
        assert getattr(back, name) == getattr(network, name)
    assert back.preprocessing == network.preprocessing
    assert back.strides == tuple(network.strides)
    assert back.input_size is None
    assert back.class_names == ("person",)
    reference = np.load(shared / f"fixtures/{Path(file).stem}.npz")
    batch = torch.from_numpy(reference["rect_input"])
    rows, expected = back.decode(back(batch)), network.decode(network(batch))
    if network.end_to_end:
        best = expected[..., 4].argsort(1, descending=True)[:, :300]
        expected = expected.gather(1, best[..., None].expand(-1, -1, 56))
        kept = expected[..., 4] > 0.1  # below, rows of the same score may change places
        rows, expected = rows[kept], expected[kept]
    torch.testing.assert_close(rows, expected, rtol=0, atol=5e-3)


@pytest.mark.parametrize(
    ("format_name", "dynamic"),
    [
        ("openvino", True),
        ("torchscript", True),
        ("torch-export", False),
        pytest.param("torch-export", True, marks=pytest.mark.slow),
    ],
)
def test_other_formats(
    tiny: Callable[..., PoseNetwork],
    shared: Path,
    picture: np.ndarray,
    tmp_path: Path,
    format_name: str,
    dynamic: bool,
) -> None:
    form = writers.FORMATS[format_name]
    path = tmp_path / f"model{form.suffix}"
    network = tiny()
    done = export_network(
        network,
        path,
        check_image=picture,
        format_name=format_name,
        image_size=SIZE,
        batch=2,
        dynamic=dynamic,
    )
    assert done.layout == "ultralytics"
    assert done.difference.rows >= 20
    assert files_in(tmp_path) == (
        ["model.bin", "model.xml"] if format_name == "openvino" else [path.name]
    )
    images = torch.from_numpy(np.load(shared / "fixtures/ul_yolo11_tiny_pose.npz")["rect_input"])
    expected = ExportedGraph(network)(images)
    torch.testing.assert_close(form.open(path)(images), expected, rtol=0, atol=1e-3)


def test_engine_finds_the_same_people(yolo11n_pose: Path, tmp_path: Path) -> None:
    """With weights that mean something, on a picture that does, to the published tolerance."""
    people = cv2.imread(str(PICTURE))
    paths = [yolo11n_pose, tmp_path / "model.onnx", tmp_path / "model.xml"]
    for path, form in zip(paths[1:], ("onnx", "openvino"), strict=True):
        network = load_network(yolo11n_pose)
        done = export_network(
            network, path, check_image=people, format_name=form, image_size=(320, 320)
        )
        assert done.difference.pixels <= 1e-3
        assert done.difference.best_score > 0.5
    square = cv2.resize(people, (320, 320))
    results = [PoseEngine.load(path, device="cpu", image_size=320)([square])[0] for path in paths]
    assert len(results[0].scores) > 0
    for other in results[1:]:
        np.testing.assert_allclose(other.scores, results[0].scores, rtol=0, atol=1e-4)
        np.testing.assert_allclose(other.boxes_xyxy, results[0].boxes_xyxy, rtol=0, atol=1e-3)
        np.testing.assert_allclose(other.keypoints, results[0].keypoints, rtol=0, atol=1e-3)


def test_metadata(tiny: Callable[..., PoseNetwork], picture: np.ndarray, tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "model.onnx"
    export_network(
        tiny(), path, check_image=picture, image_size=SIZE, batch=2, name="tiny", licence="MIT"
    )
    model = onnx.load(str(path))
    written = {item.key: item.value for item in model.metadata_props}
    assert written["description"].startswith("tiny: yolo11 pose network, exported by pose_node")
    assert {name: written[name] for name in ("license", "batch", "imgsz", "stride", "task")} == {
        "license": "MIT",
        "batch": "2",
        "imgsz": "[128, 192]",
        "stride": "32",
        "task": "pose",
    }
    (images,) = model.graph.input
    sizes = [size.dim_value for size in images.type.tensor_type.shape.dim]
    assert sizes == [2, 3, 128, 192]
    assert model.opset_import[0].version == 17


def test_progress_is_told(
    tiny: Callable[..., PoseNetwork], picture: np.ndarray, tmp_path: Path
) -> None:
    steps: list[tuple[int, int | None]] = []
    done = export_network(
        tiny(),
        tmp_path / "model.torchscript",
        check_image=picture,
        format_name="torchscript",
        image_size=(64, 64),
        progress=lambda *step: steps.append(step),
    )
    assert isinstance(done, Export)
    assert steps == [(0, 2), (1, 2), (2, 2)]


def test_a_file_that_differs_is_not_kept(
    tiny: Callable[..., PoseNetwork],
    picture: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    form = writers.FORMATS["torchscript"]

    def open_wrong(path: Path) -> writers.Runner:
        run = form.open(path)
        return lambda images: run(images) + 0.01

    changed = writers.Format("torchscript", form.suffix, form.write, open_wrong)
    monkeypatch.setitem(export.FORMATS, "torchscript", changed)
    path = tmp_path / "model.torchscript"
    path.write_text("the one before")
    text = r"differs from torch by 0\.01 pixels and 0\.01 in scores, expected at most 0\.001 and"
    with pytest.raises(OutputError, match=text) as error:
        export_network(
            tiny(), path, check_image=picture, format_name="torchscript", image_size=(64, 64)
        )
    assert str(path) in str(error.value)
    assert files_in(tmp_path) == ["model.torchscript"]
    assert path.read_text() == "the one before"


def test_where_float32_is_not_sure_float64_decides(
    tiny: Callable[..., PoseNetwork],
    picture: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forward = ExportedGraph.forward

    def unsure(graph: ExportedGraph, images: torch.Tensor) -> torch.Tensor:
        return forward(graph, images) + (0.01 if images.dtype == torch.float32 else 0)

    form = writers.FORMATS["torchscript"]

    def open_after(path: Path) -> writers.Runner:
        monkeypatch.setattr(ExportedGraph, "forward", unsure)
        return form.open(path)

    changed = writers.Format("torchscript", form.suffix, form.write, open_after)
    monkeypatch.setitem(export.FORMATS, "torchscript", changed)
    done = export_network(
        tiny(),
        tmp_path / "model.torchscript",
        check_image=picture,
        format_name="torchscript",
        image_size=(64, 64),
    )
    assert done.difference.precision == "float64"
    assert done.difference.pixels <= 1e-3


@pytest.mark.parametrize("failure", [RuntimeError("no such operator"), KeyboardInterrupt()])
def test_nothing_is_left_behind(
    tiny: Callable[..., PoseNetwork],
    picture: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
) -> None:
    def write(graph: Any, shape: Any, opset: int, metadata: Any, path: Path) -> None:
        path.write_text("half")
        raise failure

    form = writers.FORMATS["onnx"]
    changed = writers.Format("onnx", form.suffix, write, form.open)
    monkeypatch.setitem(export.FORMATS, "onnx", changed)
    expected = OutputError if isinstance(failure, RuntimeError) else KeyboardInterrupt
    with pytest.raises(expected, match=r"as onnx: no such operator|^$"):
        export_network(tiny(), tmp_path / "model.onnx", check_image=picture)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("m.onnx", {"format_name": "tflite"}, "format must be one of onnx, openvino, torchscript"),
        ("m.pt", {}, r"onnx files end in \.onnx, got m\.pt"),
        ("m.onnx", {"image_size": (100, 128)}, "multiples of 32, the stride of this model"),
        ("m.onnx", {"image_size": (0, 128)}, "multiples of 32"),
        ("m.onnx", {"batch": 0}, "batch must be 1 to 256, got 0"),
        ("m.onnx", {"opset": 99}, "opset must be 13 to 20, got 99"),
    ],
)
def test_arguments_out_of_range(
    tiny: Callable[..., PoseNetwork],
    picture: np.ndarray,
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
    text: str,
) -> None:
    with pytest.raises(ValueError, match=text):
        export_network(tiny(), tmp_path / name, check_image=picture, **options)


def test_places_that_cannot_be_written(
    tiny: Callable[..., PoseNetwork], picture: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        export_network(tiny(), tmp_path / "no/model.onnx", check_image=picture)
    (tmp_path / "model.torchscript").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*: Is a directory"):
        export_network(
            tiny(),
            tmp_path / "model.torchscript",
            check_image=picture,
            format_name="torchscript",
            image_size=(64, 64),
        )
    assert files_in(tmp_path) == ["model.torchscript"]


@pytest.mark.parametrize(("form", "module"), [("onnx", "onnx"), ("openvino", "openvino")])
def test_missing_packages(
    tiny: Callable[..., PoseNetwork],
    picture: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    module: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / f"model{writers.FORMATS[form].suffix}"
    with pytest.raises(PoseNodeError, match=rf"pip install 'pose-node\[{form}\]'"):
        export_network(tiny(), path, check_image=picture, format_name=form, image_size=(64, 64))
    assert files_in(tmp_path) == []
