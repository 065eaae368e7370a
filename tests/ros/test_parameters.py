"""The parameters: types, ranges, what may change when, and the file generated from them."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pose_node.ros.declared_parameters import describe, to_yaml
from pose_node.ros.parameters import FILE_HEAD, NodeParameters
from pose_node.smoothing import SmoothingSettings

REPOSITORY = Path(__file__).resolve().parents[2]
FIELDS = {item.name: item for item in dataclasses.fields(NodeParameters)}

WRONG = [
    ("model", "", "model must be a name or a path, got ''"),
    ("model", 11, "model must be a str, got 11"),
    ("device", "gpu", "device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
    ("device", "cuda:", "device must be auto, cpu, cuda or cuda:N, got 'cuda:'"),
    ("half", 1, "half must be a bool, got 1"),
    ("backend", "tensorrt", "backend must be auto, torch, openvino or onnxruntime, got 'tensorrt'"),
    ("batch_window", 2.0, "batch_window must be 0.0 to 1.0, got 2.0"),
    ("threads", -1, "threads must be 0 to 1024, got -1"),
    ("image_size", 0, "image_size must be 32 to 4096, got 0"),
    ("image_size", 4128, "image_size must be 32 to 4096, got 4128"),
    ("image_size", 650, "image_size must be a multiple of 32, got 650"),
    ("image_size", 640.0, "image_size must be a int, got 640.0"),
    ("image_size", True, "image_size must be a int, got True"),
    ("auto_fetch", "yes", "auto_fetch must be a bool, got 'yes'"),
    ("cameras", ("front", "front"), "cameras must be different names, at least one, got "),
    ("cameras", ("", "front"), "cameras must all have a name if there are several, got "),
    ("cameras", ("front door",), "cameras must be names of letters, digits and underscores, "),
    ("cameras", ("/front",), "cameras must be names of letters, digits and underscores, "),
    ("cameras", (1, 2), "cameras must be names of letters, digits and underscores, "),
    ("cameras", "front", "cameras must be a list of str, got 'front'"),
    ("cameras", 5, "cameras must be a list of str, got 5"),
    ("image_transport", "theora", "image_transport must be raw or compressed, got 'theora'"),
    ("max_image_pixels", 0, "max_image_pixels must be 1 to 2147483647, got 0"),
    ("reduced_decoding", 2, "reduced_decoding must be a bool, got 2"),
    ("score_threshold", 1.01, "score_threshold must be 0.0 to 1.0, got 1.01"),
    ("score_threshold", -0.01, "score_threshold must be 0.0 to 1.0, got -0.01"),
    ("score_threshold", float("nan"), "score_threshold must be 0.0 to 1.0, got nan"),
    ("score_threshold", 1, "score_threshold must be a float, got 1, write 1.0"),
    ("iou_threshold", 2.0, "iou_threshold must be 0.0 to 1.0, got 2.0"),
    ("max_people", 0, "max_people must be 1 to 1000, got 0"),
    ("max_people", 1001, "max_people must be 1 to 1000, got 1001"),
    ("skeleton", 17, "skeleton must be a str, got 17"),
    ("classes", "person", "classes must be a list of str, got 'person'"),
    ("end_to_end", 1, "end_to_end must be a bool, got 1"),
    ("onnx_layout", None, "onnx_layout must be a str, got None"),
    ("tracker", "on", "tracker must be a bool, got 'on'"),
    ("tracker_low_score", 0.9, "tracker: low_score, high_score and new_track_score must not fall"),
    ("tracker_high_score", 1.1, "tracker_high_score must be 0.0 to 1.0, got 1.1"),
    ("tracker_new_track_score", 0.0, "tracker: low_score, high_score and new_track_score must not"),
    ("tracker_match_threshold", 0.0, "tracker_match_threshold must be 0.01 to 1.0, got 0.0"),
    ("tracker_weak_match_threshold", 2.0, "tracker_weak_match_threshold must be 0.01 to 1.0, got"),
    ("tracker_confirm_hits", 0, "tracker_confirm_hits must be 1 to 100, got 0"),
    ("tracker_confirm_seconds", 11.0, "tracker_confirm_seconds must be 0.0 to 10.0, got 11.0"),
    ("tracker_tentative_seconds", -1.0, "tracker_tentative_seconds must be 0.0 to 10.0, got -1.0"),
    ("tracker_lost_seconds", 61.0, "tracker_lost_seconds must be 0.0 to 60.0, got 61.0"),
    ("tracker_restart_seconds", 0.0, "tracker_restart_seconds must be 0.1 to 3600.0, got 0.0"),
    ("smoothing", True, "smoothing needs the tracker: set tracker to on first"),
    ("smoothing_min_cutoff", 0.0, "smoothing_min_cutoff must be 0.01 to 100.0, got 0.0"),
    ("smoothing_speed_coefficient", -1.0, "smoothing_speed_coefficient must be 0.0 to 1000.0"),
    ("smoothing_speed_cutoff", 101.0, "smoothing_speed_cutoff must be 0.01 to 100.0, got 101.0"),
    ("smoothing_max_lag", 2.5, "smoothing_max_lag must be 0.0 to 2.0, got 2.5"),
    ("publish_unsmoothed", 1, "publish_unsmoothed must be a bool, got 1"),
    ("depth", "true", "depth must be a bool, got 'true'"),
    ("depth_transport", "png", "depth_transport must be raw or compressedDepth, got 'png'"),
    ("target_frame", 1, "target_frame must be a str, got 1"),
    ("depth_slop", 1.5, "depth_slop must be 0.0 to 1.0, got 1.5"),
    ("depth_patience", -0.1, "depth_patience must be 0.0 to 1.0, got -0.1"),
    ("depth_keypoint_threshold", 2.0, "depth_keypoint_threshold must be 0.0 to 1.0, got 2.0"),
    ("image_rectified", 0, "image_rectified must be a bool, got 0"),
    ("marker_lifetime", -1.0, "marker_lifetime must be 0.0 to 60.0, got -1.0"),
    ("adapters", "tf", "adapters must be a list of str, got 'tf'"),
    ("draw_keypoint_threshold", -1.0, "draw_keypoint_threshold must be 0.0 to 1.0, got -1.0"),
    ("annotated_jpeg_quality", 101, "annotated_jpeg_quality must be 1 to 100, got 101"),
    ("diagnostics_period", 0.0, "diagnostics_period must be 0.1 to 60.0, got 0.0"),
    ("autostart", None, "autostart must be a bool, got None"),
]
GOOD = {
    "model": "/models/my.pt",
    "device": "cuda:1",
    "half": True,
    "backend": "openvino",
    "threads": 2,
    "batch_window": 0.01,
    "image_size": 320,
    "auto_fetch": True,
    "cameras": ("front", "arm/left_2"),
    "image_transport": "compressed",
    "max_image_pixels": 1,
    "reduced_decoding": False,
    "score_threshold": 1.0,
    "iou_threshold": 0.0,
    "max_people": 1000,
    "skeleton": "/skeletons/hand21.yaml",
    "classes": ("person", "2"),
    "end_to_end": True,
    "onnx_layout": "yolov5-maps",
    "tracker": True,
    "tracker_low_score": 0.05,
    "tracker_high_score": 0.25,
    "tracker_new_track_score": 0.9,
    "tracker_match_threshold": 0.5,
    "tracker_weak_match_threshold": 0.6,
    "tracker_confirm_hits": 5,
    "tracker_confirm_seconds": 0.0,
    "tracker_tentative_seconds": 1.0,
    "tracker_lost_seconds": 10.0,
    "tracker_restart_seconds": 60.0,
    "smoothing_min_cutoff": 1.0,
    "smoothing_speed_coefficient": 0.0,
    "smoothing_speed_cutoff": 2.0,
    "smoothing_max_lag": 0.5,
    "publish_unsmoothed": True,
    "depth": True,
    "depth_transport": "compressedDepth",
    "target_frame": "base_link",
    "depth_slop": 0.1,
    "depth_patience": 0.0,
    "depth_keypoint_threshold": 0.6,
    "image_rectified": True,
    "marker_lifetime": 0.0,
    "adapters": ("vision_msgs", "tf"),
    "draw_keypoint_threshold": 0.0,
    "annotated_jpeg_quality": 100,
    "diagnostics_period": 60.0,
    "autostart": False,
}
LIVE = {
    "batch_window",
    "max_image_pixels",
    "reduced_decoding",
    "score_threshold",
    "iou_threshold",
    "max_people",
    "tracker",
    *(name for name in FIELDS if name.startswith(("tracker_", "smoothing"))),
    "depth_slop",
    "depth_patience",
    "depth_keypoint_threshold",
    "image_rectified",
    "marker_lifetime",
    "draw_keypoint_threshold",
    "annotated_jpeg_quality",
    "diagnostics_period",
    "autostart",  # read once, and read-only for ROS
}


@pytest.mark.parametrize(("name", "value", "reason"), WRONG)
def test_wrong_values_are_refused_with_a_reason(name: str, value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        NodeParameters().changed({name: value}, active=False)
    assert str(caught.value).startswith(reason)


def test_every_parameter_has_a_wrong_value_above() -> None:
    assert {name for name, *_ in WRONG} == FIELDS.keys() == GOOD.keys() | {"smoothing"}


def test_smoothing_goes_with_the_tracker() -> None:
    both = NodeParameters().changed({"tracker": True, "smoothing": True}, active=True)
    assert both.smoothing_settings() == SmoothingSettings()
    with pytest.raises(ValueError, match="smoothing needs the tracker"):
        both.changed({"tracker": False}, active=True)


@pytest.mark.parametrize("name", GOOD)
def test_good_values_are_taken(name: str) -> None:
    changed = NodeParameters().changed({name: GOOD[name]}, active=False)
    assert getattr(changed, name) == GOOD[name]
    assert dataclasses.replace(changed, **{name: FIELDS[name].default}) == NodeParameters()


@pytest.mark.parametrize("name", GOOD)
def test_what_may_change_while_active(name: str) -> None:
    old = NodeParameters()
    if name in LIVE:
        assert getattr(old.changed({name: GOOD[name]}, active=True), name) == GOOD[name]
        return
    with pytest.raises(ValueError, match=rf"^{name} cannot change while the node is active: deact"):
        old.changed({name: GOOD[name]}, active=True)
    assert old.changed({name: getattr(old, name)}, active=True) == old


def test_all_fixed_names_are_in_the_reason() -> None:
    with pytest.raises(ValueError, match=r"^half, model cannot change"):
        NodeParameters().changed(
            {"model": "other", "half": True, "score_threshold": 0.5}, active=True
        )


@pytest.mark.parametrize("none", [None, []])
def test_an_empty_list_of_cameras_is_the_single_camera(none: object) -> None:
    old = NodeParameters(cameras=("front",))
    assert old.changed({"cameras": none}, active=False).cameras == ("",)


def test_a_list_of_cameras_is_taken_as_ros_gives_it() -> None:
    changed = NodeParameters().changed({"cameras": ["front", "rear"]}, active=False)
    assert changed.cameras == ("front", "rear")


def test_names_of_others_are_ignored() -> None:
    old = NodeParameters()
    assert old.changed({"use_sim_time": True, "qos_overrides./a": 1}, active=True) == old


def test_construction_checks_too() -> None:
    with pytest.raises(ValueError, match=r"^max_people must be 1 to 1000, got 0$"):
        NodeParameters(max_people=0)
    with pytest.raises(ValueError, match=r"^cameras must be different names, at least one"):
        NodeParameters(cameras=())


def test_the_file_in_config_is_the_generated_one() -> None:
    command = [sys.executable, "-m", "pose_node.ros.parameters"]
    printed = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    assert printed.stdout == to_yaml(NodeParameters, *FILE_HEAD)
    assert (REPOSITORY / "config/pose_node.yaml").read_text() == to_yaml(
        NodeParameters, *FILE_HEAD
    ), "run `python -m pose_node.ros.parameters > config/pose_node.yaml`"


def test_the_file_holds_every_default() -> None:
    values = yaml.safe_load(to_yaml(NodeParameters, *FILE_HEAD))["/**"]["ros__parameters"]
    defaults = NodeParameters().changed(values, active=False)
    assert values.keys() == FIELDS.keys()
    assert defaults == NodeParameters()


def test_description_names_type_and_range() -> None:
    described = {name: describe(item) for name, item in FIELDS.items()}
    assert described["image_size"] == "image_size (int, 32 to 4096 in steps of 32)"
    assert described["score_threshold"] == "score_threshold (float, 0.0 to 1.0)"
    assert described["half"] == "half (bool)"
    assert described["cameras"].startswith("cameras (list of str, names of letters")
    assert all(item.metadata["rule"].description.endswith(".") for item in FIELDS.values())


class TestOnANode:
    """Declared on a real node."""

    pytestmark = pytest.mark.ros

    @pytest.fixture
    def make(self, ros: Any) -> Iterator[Callable[..., Any]]:
        made: list[Any] = []

        def make_node(*overrides: str) -> Any:
            given = [part for text in overrides for part in ("-p", text)]
            made.append(ros.create_node("declaring", cli_args=["--ros-args", *given]))
            return made[-1]

        yield make_node
        for node in made:
            node.destroy_node()

    def test_all_are_declared_with_defaults_and_descriptors(self, make: Callable[..., Any]) -> None:
        node = make()
        assert NodeParameters.declare(node) == NodeParameters()
        for name, item in FIELDS.items():
            rule, descriptor = item.metadata["rule"], node.describe_parameter(name)
            assert descriptor.description == rule.description
            assert describe(item) in descriptor.additional_constraints
            assert descriptor.read_only == (name == "autostart")
            if rule.maximum:
                (span,) = descriptor.integer_range or descriptor.floating_point_range
                assert (span.from_value, span.to_value) == (rule.minimum, rule.maximum)

    def test_values_of_the_command_line_are_read(self, make: Callable[..., Any]) -> None:
        node = make(
            *("model:=other", "half:=true", "image_size:=320", "score_threshold:=0.5"),
            *("cameras:=[front, rear]", "autostart:=false"),
        )
        assert NodeParameters.declare(node) == NodeParameters(
            model="other",
            half=True,
            image_size=320,
            score_threshold=0.5,
            cameras=("front", "rear"),
            autostart=False,
        )

    @pytest.mark.parametrize("text", ["cameras:=[]", 'cameras:=[""]'])
    def test_no_camera_names(self, make: Callable[..., Any], text: str) -> None:
        assert NodeParameters.declare(make(text)).cameras == ("",)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("score_threshold:=1.5", r"^score_threshold \(float, 0.0 to 1.0\): .*1\.5"),
            ("score_threshold:=high", r"^score_threshold \(float, 0.0 to 1.0\): .*high"),
            ("score_threshold:=1", r"^score_threshold \(float, 0.0 to 1.0\): .*DOUBLE"),
            ("image_size:=650", r"^image_size \(int, 32 to 4096 in steps of 32\): .*650"),
            ("device:=tpu", r"^device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
            ("cameras:=front", r"^cameras must be a list of str, got 'front'"),
            ("cameras:=[1, 2]", r"^cameras must be "),
        ],
    )
    def test_wrong_values_of_the_command_line(
        self, make: Callable[..., Any], text: str, reason: str
    ) -> None:
        with pytest.raises(ValueError, match=reason):
            NodeParameters.declare(make(text))
