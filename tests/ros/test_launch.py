"""The launch files, read with stand-ins for `launch` and `launch_ros`: what they would start."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from pose_node.ros.parameters import NodeParameters
from pose_node.ros.transport import transport_environment

REPOSITORY = Path(__file__).resolve().parents[2]
FIELDS = {item.name: item for item in dataclasses.fields(NodeParameters)}
OTHER_ARGUMENTS = {
    *("name", "namespace", "image", "depth_image", "camera_info"),
    *("params_file", "respawn", "log_level"),
}


@dataclasses.dataclass
class Action:
    """Stands in for every class of launch: remembers what it was made of."""

    positional: tuple[Any, ...]
    named: dict[str, Any]


def action(name: str) -> type[Action]:
    def init(self: Action, *positional: Any, **named: Any) -> None:
        Action.__init__(self, positional, named)

    return type(name, (Action,), {"__init__": init})


LaunchDescription, DeclareLaunchArgument, OpaqueFunction = map(
    action, ("LaunchDescription", "DeclareLaunchArgument", "OpaqueFunction")
)
IncludeLaunchDescription, LogInfo, IfCondition, Source, Node = map(
    action, ("IncludeLaunchDescription", "LogInfo", "IfCondition", "Source", "Node")
)


@dataclasses.dataclass(frozen=True)
class LaunchConfiguration:
    """The value of an argument, looked up when asked."""

    name: str

    def perform(self, context: dict[str, str]) -> str:
        return context[self.name]


class PackageNotFoundError(LookupError):
    """Of ament_index_python."""


@pytest.fixture
def installed() -> dict[str, str]:
    """Packages that are there, and their folders."""
    return {"pose_node": str(REPOSITORY)}


@pytest.fixture
def load(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str]
) -> Iterator[Callable[[str], list[Any]]]:
    """Gives what a launch file describes."""

    def share(package: str) -> str:
        if package not in installed:
            raise PackageNotFoundError(package)
        return installed[package]

    fakes = {
        "launch": {"LaunchDescription": LaunchDescription, "LaunchContext": dict},
        "launch.actions": {
            "DeclareLaunchArgument": DeclareLaunchArgument,
            "OpaqueFunction": OpaqueFunction,
            "IncludeLaunchDescription": IncludeLaunchDescription,
            "LogInfo": LogInfo,
        },
        "launch.conditions": {"IfCondition": IfCondition},
        "launch.launch_description_sources": {"PythonLaunchDescriptionSource": Source},
        "launch.substitutions": {"LaunchConfiguration": LaunchConfiguration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": Node},
        "ament_index_python": {},
        "ament_index_python.packages": {
            "PackageNotFoundError": PackageNotFoundError,
            "get_package_share_directory": share,
        },
    }
    for name, content in fakes.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)

    def describe(name: str) -> list[Any]:
        path = REPOSITORY / "launch" / name
        spec = importlib.util.spec_from_file_location(path.stem.replace(".", "_"), path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        description = module.generate_launch_description()
        assert type(description) is LaunchDescription
        (actions,) = description.positional
        return list(actions)

    return describe


def arguments(actions: list[Any]) -> dict[str, Any]:
    """Declared arguments by name."""
    return {
        item.positional[0]: item.named for item in actions if type(item) is DeclareLaunchArgument
    }


def defaults(actions: list[Any]) -> dict[str, str]:
    return {name: named["default_value"] for name, named in arguments(actions).items()}


def started_by(actions: list[Any], **given: str) -> Any:
    """What pose.launch.py starts with these arguments."""
    assert given.keys() <= arguments(actions).keys()
    (function,) = (item.named["function"] for item in actions if type(item) is OpaqueFunction)
    (node,) = function({**defaults(actions), **given})
    assert type(node) is Node
    return node.named


# pose.launch.py


def test_every_parameter_is_an_argument_with_its_default(load: Callable[[str], list[Any]]) -> None:
    found = arguments(load("pose.launch.py"))
    assert found.keys() == FIELDS.keys() | OTHER_ARGUMENTS
    for name, item in FIELDS.items():
        text = found[name]["default_value"]
        value = yaml.safe_load(text) if text else ""
        assert (tuple(value) if isinstance(value, list) else value) == item.default
        assert type(item.default) is tuple or type(value) is type(item.default)
        assert found[name]["description"] == item.metadata["rule"].description
    assert all(found[name]["description"].endswith(".") for name in OTHER_ARGUMENTS)


def test_arguments_have_no_two_meanings() -> None:
    assert not FIELDS.keys() & OTHER_ARGUMENTS


def test_without_arguments_the_node_has_its_own_defaults(load: Callable[[str], list[Any]]) -> None:
    node = started_by(load("pose.launch.py"))
    assert node["parameters"] == [{}]
    assert (node["package"], node["executable"]) == ("pose_node", "pose_node")
    assert (node["name"], node["namespace"]) == ("pose_node", "")
    assert node["remappings"] == [
        ("image_raw", "image_raw"),
        ("image_raw/compressed", "image_raw/compressed"),
        ("depth/image_raw", "depth/image_raw"),
        ("camera_info", "camera_info"),
    ]
    assert node["arguments"] == ["--ros-args", "--log-level", "info"]
    assert node["respawn"] is True
    assert node["output"] == "screen"


GIVEN: dict[str, tuple[str, object]] = {
    "model": ("/models/my.pt", "/models/my.pt"),
    "device": ("cuda:1", "cuda:1"),
    "backend": ("onnxruntime", "onnxruntime"),
    "threads": ("2", 2),
    "batch_window": ("0.01", 0.01),
    "half": ("true", True),
    "image_size": ("320", 320),
    "auto_fetch": ("True", True),
    "cameras": ("[front, 'arm/left']", ["front", "arm/left"]),
    "image_transport": ("compressed", "compressed"),
    "max_image_pixels": ("1000", 1000),
    "reduced_decoding": ("false", False),
    "score_threshold": ("1", 1.0),
    "iou_threshold": ("0", 0.0),
    "max_people": ("7", 7),
    "skeleton": ("hand21.yaml", "hand21.yaml"),
    "classes": ("[person, 3]", ["person", "3"]),
    "end_to_end": ("true", True),
    "onnx_layout": ("yolov5-maps", "yolov5-maps"),
    "tracker": ("on", True),
    "tracker_low_score": ("0.2", 0.2),
    "tracker_high_score": ("0.25", 0.25),
    "tracker_new_track_score": ("1", 1.0),
    "tracker_match_threshold": ("0.5", 0.5),
    "tracker_weak_match_threshold": ("0.6", 0.6),
    "tracker_confirm_hits": ("5", 5),
    "tracker_confirm_seconds": ("1", 1.0),
    "tracker_tentative_seconds": ("2", 2.0),
    "tracker_lost_seconds": ("10", 10.0),
    "tracker_restart_seconds": ("60", 60.0),
    "smoothing": ("on", True),
    "smoothing_min_cutoff": ("1", 1.0),
    "smoothing_speed_coefficient": ("5", 5.0),
    "smoothing_speed_cutoff": ("2", 2.0),
    "smoothing_max_lag": ("0.2", 0.2),
    "publish_unsmoothed": ("true", True),
    "depth": ("true", True),
    "depth_transport": ("compressedDepth", "compressedDepth"),
    "target_frame": ("base_link", "base_link"),
    "depth_slop": ("0.1", 0.1),
    "depth_patience": ("0", 0.0),
    "depth_keypoint_threshold": ("0.6", 0.6),
    "image_rectified": ("true", True),
    "marker_lifetime": ("2", 2.0),
    "adapters": ("[vision_msgs, tf]", ["vision_msgs", "tf"]),
    "draw_keypoint_threshold": ("0.25", 0.25),
    "annotated_jpeg_quality": ("50", 50),
    "diagnostics_period": ("2", 2.0),
    "autostart": ("false", False),
}


@pytest.mark.parametrize("name", FIELDS)
def test_an_argument_becomes_a_parameter_of_the_right_type(
    load: Callable[[str], list[Any]], name: str
) -> None:
    text, expected = GIVEN[name]
    (parameters,) = started_by(load("pose.launch.py"), **{name: text})["parameters"]
    assert parameters == {name: expected}
    assert type(parameters[name]) is type(expected)
    needed = {"tracker": True} if name == "smoothing" else {}
    node_parameters = NodeParameters().changed({**needed, **parameters}, active=False)
    assert node_parameters != NodeParameters()


@pytest.mark.parametrize("text", ["front,rear", "[front, rear]", '["front", "rear"]'])
def test_ways_to_write_cameras(load: Callable[[str], list[Any]], text: str) -> None:
    (parameters,) = started_by(load("pose.launch.py"), cameras=text)["parameters"]
    assert parameters == {"cameras": ["front", "rear"]}


@pytest.mark.parametrize("text", ["[]", "['']", '[""]', ""])
def test_ways_to_write_no_cameras(load: Callable[[str], list[Any]], text: str) -> None:
    (parameters,) = started_by(load("pose.launch.py"), cameras=text)["parameters"]
    assert NodeParameters().changed(parameters, active=False) == NodeParameters()


def test_what_is_no_boolean_reaches_the_node_which_refuses_it(
    load: Callable[[str], list[Any]],
) -> None:
    (parameters,) = started_by(load("pose.launch.py"), half="perhaps")["parameters"]
    with pytest.raises(ValueError, match="half must be a bool, got 'perhaps'"):
        NodeParameters().changed(parameters, active=False)


def test_parameter_file_comes_first_so_that_arguments_override_it(
    load: Callable[[str], list[Any]],
) -> None:
    node = started_by(load("pose.launch.py"), params_file="/my.yaml", max_people="5")
    assert node["parameters"] == ["/my.yaml", {"max_people": 5}]


def test_other_arguments(load: Callable[[str], list[Any]]) -> None:
    node = started_by(
        load("pose.launch.py"),
        image="/camera/color/image_raw",
        depth_image="/camera/aligned_depth_to_color/image_raw",
        camera_info="/camera/color/camera_info",
        name="people",
        namespace="robot",
        log_level="debug",
        respawn="false",
    )
    assert node["remappings"] == [
        ("image_raw", "/camera/color/image_raw"),
        ("image_raw/compressed", "/camera/color/image_raw/compressed"),
        ("depth/image_raw", "/camera/aligned_depth_to_color/image_raw"),
        ("camera_info", "/camera/color/camera_info"),
    ]
    assert (node["name"], node["namespace"]) == ("people", "robot")
    assert node["arguments"] == ["--ros-args", "--log-level", "debug"]
    assert node["respawn"] is False


def test_a_node_that_ends_is_started_again(load: Callable[[str], list[Any]]) -> None:
    node = started_by(load("pose.launch.py"))
    assert (node["respawn"], node["respawn_delay"]) == (True, 1.0)


def test_process_settings(load: Callable[[str], list[Any]]) -> None:
    node = started_by(load("pose.launch.py"))
    assert node["additional_env"] == transport_environment()


# demo.launch.py


def test_demo_starts_camera_and_node(load: Callable[[str], list[Any]]) -> None:
    actions = load("demo.launch.py")
    found = arguments(actions)
    assert found.keys() == {"source", "rate", "rviz"}
    assert "default_value" not in found["source"]
    (camera,) = (item.named for item in actions if type(item) is Node)
    assert (camera["package"], camera["executable"]) == ("pose_node", "camera")
    assert camera["arguments"] == [
        LaunchConfiguration("source"),
        "--rate",
        LaunchConfiguration("rate"),
        "--loop",
        "--transport",
        LaunchConfiguration("image_transport"),
    ]
    assert camera["namespace"] == LaunchConfiguration("namespace")
    assert dict(camera["remappings"]) == {
        "image_raw": LaunchConfiguration("image"),
        "image_raw/compressed": [LaunchConfiguration("image"), "/compressed"],
    }
    kinds = [type(item) for item in actions]
    assert kinds.index(IncludeLaunchDescription) < kinds.index(Node)  # which declares those
    assert camera["additional_env"] == transport_environment()
    (include,) = (item for item in actions if type(item) is IncludeLaunchDescription)
    (path,) = include.positional[0].positional
    assert Path(path) == REPOSITORY / "launch/pose.launch.py"


def test_arguments_of_the_camera_are_understood(load: Callable[[str], list[Any]]) -> None:
    pytest.importorskip("cv2", reason="OpenCV missing")
    from pose_node.ros.camera_options import parse_options

    (camera,) = (item.named for item in load("demo.launch.py") if type(item) is Node)
    values = {"source": "video.mp4", "rate": "30", "image_transport": "compressed"}
    options = parse_options(
        [
            item.perform(values) if isinstance(item, LaunchConfiguration) else item
            for item in camera["arguments"]
        ]
    )
    assert (options.source, options.rate, options.loop) == ("video.mp4", 30.0, True)
    assert options.transport == "compressed"


def test_demo_says_that_rviz_is_missing(load: Callable[[str], list[Any]]) -> None:
    (said,) = (item.named for item in load("demo.launch.py") if type(item) is LogInfo)
    assert said["msg"].startswith("RViz is not installed")
    assert said["condition"].positional == (LaunchConfiguration("rviz"),)


def test_demo_opens_rviz(load: Callable[[str], list[Any]], installed: dict[str, str]) -> None:
    installed["rviz2"] = "/opt/ros/share/rviz2"
    actions = load("demo.launch.py")
    _, rviz = (item.named for item in actions if type(item) is Node)
    assert (rviz["package"], rviz["executable"]) == ("rviz2", "rviz2")
    assert rviz["arguments"][0] == "-d"
    config = Path(rviz["arguments"][1])
    assert config == REPOSITORY / "rviz/pose.rviz"
    assert config.is_file()
    assert rviz["condition"].positional == (LaunchConfiguration("rviz"),)
    assert not [item for item in actions if type(item) is LogInfo]


def test_rviz_shows_topics_of_the_node() -> None:
    text = (REPOSITORY / "rviz/pose.rviz").read_text()
    assert yaml.safe_load(text)["Visualization Manager"]["Displays"]
    assert set(re.findall(r"Value: (/\S+)", text)) <= {"/image_annotated", "/markers"}


# Both


@pytest.mark.parametrize("name", ["pose.launch.py", "demo.launch.py"])
def test_executables_are_there_and_installed(load: Callable[[str], list[Any]], name: str) -> None:
    actions = load(name)
    nodes = [item.named for item in actions if type(item) is Node]
    if name == "pose.launch.py":
        nodes.append(started_by(actions))
    installed = (REPOSITORY / "CMakeLists.txt").read_text()
    for node in nodes:
        if node["package"] == "pose_node":
            script = REPOSITORY / "scripts/ros" / node["executable"]
            assert script.stat().st_mode & 0o111
            assert f"scripts/ros/{node['executable']}" in installed
    assert re.search(r"install\(DIRECTORY [^)]*\blaunch\b", installed)
