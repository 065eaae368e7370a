"""What the engine gets of the parameters."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from pose_node.errors import CheckpointError, PoseNodeError, SkeletonError
from pose_node.inference import devices
from pose_node.inference.engine import PoseEngine
from pose_node.ros import loading
from pose_node.ros.parameters import NodeParameters

pytestmark = pytest.mark.ros


class FakeEngine:
    """An engine that is warmed up and nothing else."""

    score_threshold = 0.4
    warm = 0

    def warm_up(self, *, batch: int) -> None:
        self.warm = batch


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments that `PoseEngine.load` was called with."""
    arguments: dict[str, Any] = {}

    def load(model: str, **named: Any) -> FakeEngine:
        arguments.update(model=model, **named)
        return FakeEngine()

    monkeypatch.setattr(PoseEngine, "load", load)
    return arguments


def test_defaults_leave_the_choice_to_the_model(given: dict[str, Any]) -> None:
    pipeline = loading.load_pipeline(NodeParameters())
    assert given == {
        "model": "yolo11n-pose",
        "device": "auto",
        "half": False,
        "image_size": 640,
        "score_threshold": 0.3,
        "iou_threshold": 0.65,
        "max_people": 100,
        "classes": None,
        "skeleton": None,
        "end_to_end": None,
        "onnx_layout": None,
        "backend": "auto",
        "threads": None,
    }
    engine: Any = pipeline.engine
    assert engine.warm == 1
    assert (pipeline.tracking, pipeline.smoothing) == (None, None)


def test_what_is_set_gets_there(given: dict[str, Any]) -> None:
    parameters = NodeParameters(
        skeleton="hand21.yaml",
        classes=("person", "2"),
        end_to_end=True,
        onnx_layout="yolov5-maps",
        backend="onnxruntime",
        threads=3,
        cameras=("front", "rear"),
        tracker=True,
        tracker_lost_seconds=7.0,
        smoothing=True,
        smoothing_max_lag=0.5,
    )
    pipeline = loading.load_pipeline(parameters)
    assert given["skeleton"] == "hand21.yaml"
    assert given["classes"] == ("person", "2")
    assert given["end_to_end"] is True
    assert given["onnx_layout"] == "yolov5-maps"
    assert (given["backend"], given["threads"]) == ("onnxruntime", 3)
    engine: Any = pipeline.engine
    assert engine.warm == 2  # images at once
    assert pipeline.tracking is not None
    assert pipeline.tracking.lost_seconds == 7
    assert pipeline.smoothing is not None
    assert pipeline.smoothing.max_lag == 0.5


@pytest.mark.parametrize(("auto_fetch", "fetched"), [(True, ["yolo11n-pose"]), (False, [])])
def test_a_known_model_is_fetched_only_if_asked_for(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch, auto_fetch: bool, fetched: list[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(loading, "fetch_model", asked.append)
    loading.load_pipeline(NodeParameters(auto_fetch=auto_fetch))
    assert asked == fetched
    loading.load_pipeline(NodeParameters(auto_fetch=auto_fetch, model="/my/model.pt"))
    assert asked == fetched


@pytest.mark.parametrize(
    ("values", "error", "reason"),
    [
        ({"skeleton": "no_such.yaml"}, SkeletonError, "no_such.yaml"),
        ({"classes": ("dog",)}, ValueError, "classes must be names or numbers .* got 'dog'"),
        ({"end_to_end": True}, CheckpointError, "no branch that needs no suppression"),
        ({"image_size": 32}, None, ""),
    ],
)
def test_the_real_model_says_what_does_not_go_with_it(
    yolo11n_pose: Path, values: dict[str, Any], error: type[Exception] | None, reason: str
) -> None:
    parameters = NodeParameters(
        **{"model": str(yolo11n_pose), "device": "cpu", "image_size": 32, **values}
    )
    if error is None:
        assert loading.load_pipeline(parameters).engine.num_keypoints == 17
        return
    with pytest.raises(error, match=reason):
        loading.load_pipeline(parameters)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pose_node.inference.engine")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(PoseNodeError, match=r"torch is missing: `pip install torch"):
        loading.load_pipeline(NodeParameters())


def test_beside_a_gpu_the_cpu_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was exported for OpenVINO runs on the CPU only, whatever there is."""
    monkeypatch.setattr(devices, "why_no_cuda", lambda: None)
    monkeypatch.setattr(devices, "is_cuda_expected", lambda: True)
    engine = SimpleNamespace(device="cpu", backend="openvino")
    logger = SimpleNamespace(warning=lambda message: None)
    pipeline: Any = SimpleNamespace(engine=engine)
    reason = loading.why_on_cpu(pipeline, NodeParameters(), logger)  # type: ignore[arg-type]
    assert reason == "device: auto, running on the CPU: openvino cannot use the GPU"
