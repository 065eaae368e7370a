"""What exported models say about themselves, and what they may not say."""

from __future__ import annotations

import json

import pytest

from pose_node.inference.onnx_metadata import FileFacts, read_metadata, write_metadata
from pose_node.models.preprocessing import Preprocessing

ULTRALYTICS = {
    "description": "Ultralytics YOLO11n-pose model ",
    "head": "Pose",
    "task": "pose",
    "stride": "32",
    "imgsz": "[384, 640]",
    "names": "{0: 'person', 1: 'dog'}",
    "kpt_shape": "[17, 3]",
    "end2end": "False",
    "args": "{'nms': None, 'dynamic': False}",
}


def test_ultralytics() -> None:
    facts = read_metadata(ULTRALYTICS)
    assert facts == FileFacts(
        family="yolo11",
        strides=(32,),
        keypoint_shape=(17, 3),
        class_names=("person", "dog"),
        image_size=(384, 640),
    )
    assert read_metadata({**ULTRALYTICS, "args": "{'nms': True}"}).final
    assert read_metadata({**ULTRALYTICS, "end2end": "True"}).final
    assert read_metadata({**ULTRALYTICS, "head": "Pose26"}).family == "yolo26"
    older = read_metadata({"description": "Ultralytics YOLOv8s-pose model", "stride": "32.0"})
    assert (older.family, older.strides) == ("yolov8", (32,))
    assert read_metadata({"imgsz": "640"}).image_size == (640, 640)


def test_nothing_said() -> None:
    assert read_metadata({}) == FileFacts()


def test_what_is_written_is_read() -> None:
    facts = FileFacts(
        family="yolox",
        layout="ultralytics",
        strides=(8, 16, 32),
        keypoint_shape=(21, 2),
        class_names=("left hand", "right 'hand'"),
        final=True,
        image_size=(416, 640),
        preprocessing=Preprocessing("bgr", 1.0, centred=False, square=True),
    )
    written = write_metadata(
        facts, description="hands", licence="MIT", version="1", batch=2, dynamic=True
    )
    assert all(type(value) is str for value in written.values())
    assert (written["license"], written["stride"], written["batch"]) == ("MIT", "32", "2")
    assert read_metadata(written) == facts


OWN = {
    "format": 1,
    "family": "yolov5",
    "layout": "ultralytics",
    "strides": [8],
    "preprocessing": {"channel_order": "rgb", "scale": 0.1, "centred": True, "square": False},
}


@pytest.mark.parametrize(
    ("properties", "text"),
    [
        ({"task": "detect"}, "expected one for 'pose'"),
        ({"stride": "0"}, "'stride' must be a number from 1"),
        ({"stride": "__import__('os')"}, "'stride' is no Python literal"),
        ({"stride": "[" * 5000}, "'stride' is no Python literal"),
        ({"names": "'" + "x" * 200_000 + "'"}, "'names' is no Python literal"),
        ({"names": "{1: 'person'}"}, "'names' must name the classes"),
        ({"names": "[]"}, "'names' must name the classes"),
        ({"kpt_shape": "[17, 4]"}, "'kpt_shape' must be"),
        ({"kpt_shape": "[True, 3]"}, "'kpt_shape' must be"),
        ({"imgsz": "[1]"}, "'imgsz' must be"),
        ({"pose_node": "{"}, "'pose_node' cannot be used"),
        ({"pose_node": "[" * 50_000}, "'pose_node' cannot be used"),
        ({"pose_node": json.dumps({**OWN, "format": 2})}, "it has format 2, expected 1"),
        ({"pose_node": json.dumps({**OWN, "strides": [-8]})}, "out of its range"),
        ({"pose_node": json.dumps({**OWN, "preprocessing": {}})}, "'channel_order'"),
    ],
)
def test_bad_values(properties: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=text.replace("(", r"\(")):
        read_metadata(properties)
