"""Every parameter of the node, once: name, default, meaning, range and when it may change.

The node declares itself from this dataclass, `config/pose_node.yaml` is generated from it
(``python -m pose_node.ros.parameters > config/pose_node.yaml``) and the launch file takes its
arguments from it. ROS is imported only to declare, so that the rest works without it.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pose_node import smoothing, tracking
from pose_node.depth import DepthOptions
from pose_node.imaging import DEFAULT_MAX_PIXELS
from pose_node.smoothing import SmoothingSettings
from pose_node.tracking import TrackerSettings

if TYPE_CHECKING:
    from typing import Self

    from rcl_interfaces.msg import ParameterDescriptor
    from rclpy.node import Node


@dataclass(frozen=True)
class Rule:
    """What a parameter means and accepts.

    Attributes:
        description: one line for people.
        minimum, maximum, step: the range of a number; step 0 means any number between.
        pattern: regular expression that a text, or every text of a list, must match.
        expected: the pattern in words.
        fixed: may change only while the node is not active.
        at_start: is read once, when the process starts.
    """

    description: str
    minimum: float = 0
    maximum: float = 0
    step: int = 0
    pattern: str = ""
    expected: str = ""
    fixed: bool = False
    at_start: bool = False


def parameter(default: Any, description: str, **rule: Any) -> Any:
    """A field of `Parameters`: its default and the rest of its `Rule`."""
    return field(default=default, metadata={"rule": Rule(description, **rule)})


@dataclass(frozen=True)
class Parameters:
    """The parameters of a node; refuses wrong values with a ValueError that says what is right.

    Every field of a subclass is made by `parameter`. All may change while the node runs and hold
    from the next frame on, except those whose description says otherwise.
    """

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            _check(item.name, getattr(self, item.name), item.default, item.metadata["rule"])

    def changed(self, values: dict[str, Any], *, active: bool) -> Self:
        """A copy with new values.

        Args:
            values: new values by name; names that are not parameters of this class are ignored.
            active: the node is at work, so that fixed parameters must keep their value.

        Raises:
            ValueError: a value is wrong, or may not change now.
        """
        defaults = {item.name: item.default for item in dataclasses.fields(self)}
        known = {
            name: _to_names(value) if isinstance(defaults[name], tuple) else value
            for name, value in values.items()
            if name in defaults
        }
        new = dataclasses.replace(self, **known)
        if active and new.fixed_values() != self.fixed_values():
            names = {name for name in known if getattr(new, name) != getattr(self, name)}
            raise ValueError(
                f"{', '.join(sorted(names & self.fixed_values().keys()))} cannot change while the "
                "node is active: deactivate the node first, for example with "
                "`ros2 lifecycle set NODE deactivate`"
            )
        return new

    def fixed_values(self) -> dict[str, Any]:
        """The values that the network and the topics are built from."""
        return {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if item.metadata["rule"].fixed
        }

    @classmethod
    def declare(cls, node: Node) -> Self:
        """Declare all parameters on a node, with description and range, and read them.

        Raises:
            ValueError: a value given on the command line or in a file is wrong.
        """
        from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

        values = {}
        for item in dataclasses.fields(cls):
            default = list(item.default) if isinstance(item.default, tuple) else item.default
            try:
                declared = node.declare_parameter(item.name, default, _descriptor(item))
            except (InvalidParameterTypeException, InvalidParameterValueException) as error:
                raise ValueError(f"{describe(item)}: {error}") from error
            values[item.name] = declared.value
        return cls().changed(values, active=False)


def _tracker_setting(name: str, description: str) -> Any:
    """The parameter for a field of `TrackerSettings`, with its default and range."""
    minimum, maximum = tracking.RANGES[name]
    default = getattr(TrackerSettings, name)
    return parameter(default, description, minimum=minimum, maximum=maximum)


def _smoothing_setting(name: str, description: str) -> Any:
    """The parameter for a field of `SmoothingSettings`, with its default and range."""
    minimum, maximum = smoothing.RANGES[name]
    default = getattr(SmoothingSettings, name)
    return parameter(default, description, minimum=minimum, maximum=maximum)


@dataclass(frozen=True)
class NodeParameters(Parameters):
    """The parameters of the pose node."""

    model: str = parameter(
        "yolo11n-pose",
        "Name of a model that `pose-node fetch` has put in the cache, or the path of a model file.",
        pattern=r".+",
        expected="a name or a path",
        fixed=True,
    )
    device: str = parameter(
        "auto",
        "Where the network runs: auto (CUDA if there, else the CPU), cpu, cuda or cuda:N.",
        pattern=r"auto|cpu|cuda(:\d+)?",
        expected="auto, cpu, cuda or cuda:N",
        fixed=True,
    )
    skeleton: str = parameter(
        "",
        "Names and limbs of the keypoints: a built-in skeleton (coco17) or a YAML file; empty "
        "takes the built-in one with as many keypoints as the model has.",
        fixed=True,
    )
    classes: tuple[str, ...] = parameter(
        ("",),
        "Of models that know several classes, only these, by name or number; empty for all.",
        fixed=True,
    )
    end_to_end: bool = parameter(
        False,
        "Use the head that needs no suppression, of models that have two (YOLO26).",
        fixed=True,
    )
    onnx_layout: str = parameter(
        "",
        "How the outputs of an exported model are laid out, where its file does not say so.",
        fixed=True,
    )
    half: bool = parameter(
        False, "Compute in 16-bit floating point; faster on most GPUs.", fixed=True
    )
    image_size: int = parameter(
        640,
        "Longer side of the network's input, pixels; larger finds smaller people and takes longer.",
        minimum=32,
        maximum=4096,
        step=32,
        fixed=True,
    )
    auto_fetch: bool = parameter(
        False, "Download a known model that is not in the cache, when configuring.", fixed=True
    )
    cameras: tuple[str, ...] = parameter(
        ("",),
        "Names of the cameras; each has its topics under its name, and all share one network. "
        "The empty name stands for a single camera without prefix.",
        pattern=r"([A-Za-z_]\w*(/[A-Za-z_]\w*)*)?",
        expected="names of letters, digits and underscores, parts joined by /, such as front",
        fixed=True,
    )
    image_transport: str = parameter(
        "raw",
        "Which images to receive: raw (topic image_raw) or compressed (image_raw/compressed).",
        pattern=r"raw|compressed",
        expected="raw or compressed",
        fixed=True,
    )
    max_image_pixels: int = parameter(
        DEFAULT_MAX_PIXELS,
        "Images with more pixels are refused unread.",
        minimum=1,
        maximum=2**31 - 1,
    )
    score_threshold: float = parameter(
        0.3, "People with a lower score are not reported.", minimum=0.0, maximum=1.0
    )
    iou_threshold: float = parameter(
        0.65,
        "Of two boxes that overlap more than this (intersection over union), the better stays.",
        minimum=0.0,
        maximum=1.0,
    )
    max_people: int = parameter(
        100, "At most so many people per image, the best ones.", minimum=1, maximum=1000
    )
    tracker: bool = parameter(  # YAML and ROS take on and off for true and false
        False,
        "Give people ids that last (track_id), on or off. People below score_threshold are then "
        "reported, too, while they continue a track.",
    )
    tracker_low_score: float = _tracker_setting(
        "low_score", "People with a lower score are not followed either."
    )
    tracker_high_score: float = _tracker_setting(
        "high_score", "People with a higher score are matched first."
    )
    tracker_new_track_score: float = _tracker_setting(
        "new_track_score", "Only people with a higher score start a track."
    )
    tracker_match_threshold: float = _tracker_setting(
        "match_threshold", "Least similarity of a person to the track they continue."
    )
    tracker_weak_match_threshold: float = _tracker_setting(
        "weak_match_threshold", "The same for people between low and high score."
    )
    tracker_confirm_hits: int = _tracker_setting(
        "confirm_hits", "A track gets its id when it was seen in so many images ..."
    )
    tracker_confirm_seconds: float = _tracker_setting(
        "confirm_seconds", "... and for so many seconds."
    )
    tracker_tentative_seconds: float = _tracker_setting(
        "tentative_seconds", "A track without an id ends after so many seconds unseen."
    )
    tracker_lost_seconds: float = _tracker_setting(
        "lost_seconds", "A track with an id ends after so many seconds unseen."
    )
    tracker_restart_seconds: float = _tracker_setting(
        "restart_seconds", "All tracks end when there was no image for so many seconds."
    )
    smoothing: bool = parameter(
        False, "Smooth the keypoints of people with ids (One Euro filter); needs the tracker."
    )
    smoothing_min_cutoff: float = _smoothing_setting(
        "min_cutoff", "Hz, for keypoints that hold still; lower is smoother."
    )
    smoothing_speed_coefficient: float = _smoothing_setting(
        "speed_coefficient", "Hz more for each height of the person in a second."
    )
    smoothing_speed_cutoff: float = _smoothing_setting(
        "speed_cutoff", "Hz, for the measured speed."
    )
    smoothing_max_lag: float = _smoothing_setting(
        "max_lag", "Seconds, the most that a moving keypoint trails behind."
    )
    publish_unsmoothed: bool = parameter(
        False, "Also publish people where the network found them, on poses_unsmoothed.", fixed=True
    )
    depth: bool = parameter(
        False,
        "Find people in metres, too, by a depth image that is registered to the colour image: "
        "publishes poses_3d and markers.",
        fixed=True,
    )
    depth_transport: str = parameter(
        "raw",
        "Which depth images: raw (depth/image_raw) or compressedDepth.",
        pattern="raw|compressedDepth",
        expected="raw or compressedDepth",
        fixed=True,
    )
    target_frame: str = parameter(
        "",
        "TF frame of poses_3d and markers; empty for the camera's own. Needs tf2_ros.",
        fixed=True,
    )
    depth_slop: float = parameter(
        DepthOptions.slop,
        "Seconds by which the stamps of colour and depth may differ.",
        minimum=0.0,
        maximum=1.0,
    )
    depth_patience: float = parameter(
        DepthOptions.patience,
        "Seconds to wait for a depth image, or a transform, that is late.",
        minimum=0.0,
        maximum=1.0,
    )
    depth_keypoint_threshold: float = parameter(
        DepthOptions.keypoint_threshold,
        "Keypoints with a lower score stay unknown (NaN) in poses_3d.",
        minimum=0.0,
        maximum=1.0,
    )
    image_rectified: bool = parameter(
        DepthOptions.rectified, "The colour image is the rectified one: P of CameraInfo holds."
    )
    marker_lifetime: float = parameter(
        DepthOptions.marker_lifetime,
        "Seconds until RViz removes a marker by itself, 0 for never.",
        minimum=0.0,
        maximum=60.0,
    )
    adapters: tuple[str, ...] = parameter(
        ("",),
        "Also publish people in the messages of other packages: vision_msgs, hri_msgs, "
        "foxglove_msgs, tf; empty for none.",
        fixed=True,
    )
    draw_keypoint_threshold: float = parameter(
        0.5,
        "Keypoints with a lower score are not drawn; the messages always hold all of them.",
        minimum=0.0,
        maximum=1.0,
    )
    annotated_jpeg_quality: int = parameter(
        80, "Quality of image_annotated/compressed.", minimum=1, maximum=100
    )
    diagnostics_period: float = parameter(
        1.0, "Seconds between two reports on /diagnostics.", minimum=0.1, maximum=60.0
    )
    autostart: bool = parameter(
        True, "Configure and activate without being asked (lifecycle).", at_start=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.cameras)) != len(self.cameras) or not self.cameras:
            raise ValueError(
                f"cameras must be different names, at least one, got {list(self.cameras)}"
            )
        if "" in self.cameras and len(self.cameras) > 1:
            raise ValueError(
                f"cameras must all have a name if there are several, got {list(self.cameras)}"
            )
        self.tracker_settings()
        if self.smoothing and not self.tracker:
            raise ValueError("smoothing needs the tracker: set tracker to on first")

    def smoothing_settings(self) -> SmoothingSettings | None:
        """How to smooth keypoints; None if they are not to be smoothed."""
        names = [item.name for item in dataclasses.fields(SmoothingSettings)]
        values = {name: getattr(self, f"smoothing_{name}") for name in names}
        return SmoothingSettings(**values) if self.smoothing else None

    def tracker_settings(self) -> TrackerSettings | None:
        """How to follow people; None if they are not to be followed.

        Raises:
            ValueError: two of the settings contradict each other.
        """
        names = [item.name for item in dataclasses.fields(TrackerSettings)]
        try:
            settings = TrackerSettings(**{name: getattr(self, f"tracker_{name}") for name in names})
        except ValueError as error:
            raise ValueError(f"tracker: {error}") from error
        return settings if self.tracker else None

    def depth_options(self) -> DepthOptions:
        """How people are found in space."""
        return DepthOptions(
            keypoint_threshold=self.depth_keypoint_threshold,
            slop=self.depth_slop,
            patience=self.depth_patience,
            rectified=self.image_rectified,
            marker_lifetime=self.marker_lifetime,
        )

    def adapter_names(self) -> tuple[str, ...]:
        """The adapters without the empty name that stands for none."""
        return tuple(filter(None, self.adapters))


def describe(item: dataclasses.Field[Any]) -> str:
    """One line for people: name, type and accepted values of one parameter."""
    rule: Rule = item.metadata["rule"]
    accepted = _type_name(item.default)
    if rule.maximum:
        accepted += f", {rule.minimum} to {rule.maximum}"
        accepted += f" in steps of {rule.step}" if rule.step > 1 else ""
    elif rule.expected:
        accepted += f", {rule.expected}"
    return f"{item.name} ({accepted})"


def to_yaml() -> str:
    """The parameter file with every parameter, its meaning, range and default."""
    lines = [
        "# Every parameter of pose_node with its default.",
        "# Generated by `python -m pose_node.ros.parameters`: change it in parameters.py.",
        "/**:",
        "  ros__parameters:",
    ]
    for item in dataclasses.fields(NodeParameters):
        rule: Rule = item.metadata["rule"]
        lines += [f"    # {rule.description}", f"    # {describe(item)}; {_when(rule)}"]
        lines += [f"    {item.name}: {_yaml_value(item.default)}"]
    return "\n".join(lines) + "\n"


def to_markdown(parameters: type[Parameters] = NodeParameters) -> str:
    """The table of parameters for the README."""
    lines = ["| parameter | default | meaning |", "|---|---|---|"]
    for item in dataclasses.fields(parameters):
        rule: Rule = item.metadata["rule"]
        accepted = describe(item).removeprefix(f"{item.name} ").strip("()").replace("|", "\\|")
        default = _yaml_value(item.default)
        lines.append(
            f"| `{item.name}` | `{default}` | {rule.description} *{accepted}; {_when(rule)}* |"
        )
    return "\n".join(lines) + "\n"


def _yaml_value(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{name}"' for name in value) + "]"
    if value == "":
        return '""'
    return str(value).lower() if isinstance(value, bool) else str(value)


def _to_names(value: Any) -> Any:
    """A list of names as a tuple; ROS gives an empty list as no value at all. Others stay wrong."""
    if value is None or value == []:
        return ("",)
    return tuple(value) if isinstance(value, list) else value


def _type_name(default: object) -> str:
    return "list of str" if isinstance(default, tuple) else type(default).__name__


def _when(rule: Rule) -> str:
    if rule.at_start:
        return "read once at the start"
    return "fixed while active" if rule.fixed else "live"


def _check(name: str, value: Any, default: Any, rule: Rule) -> None:
    """Refuse a value of the wrong type, out of range or of the wrong form."""
    if type(value) is not type(default):
        hint = f", write {value}.0" if (type(value), type(default)) == (int, float) else ""
        raise ValueError(f"{name} must be a {_type_name(default)}, got {value!r}{hint}")
    if rule.maximum and not rule.minimum <= value <= rule.maximum:
        raise ValueError(f"{name} must be {rule.minimum} to {rule.maximum}, got {value}")
    if rule.step and (value - rule.minimum) % rule.step:
        raise ValueError(f"{name} must be a multiple of {rule.step}, got {value}")
    texts = value if isinstance(value, tuple) else (value,)
    if rule.pattern and not all(
        isinstance(text, str) and re.fullmatch(rule.pattern, text, re.ASCII) for text in texts
    ):
        raise ValueError(f"{name} must be {rule.expected}, got {value!r}")


def _descriptor(item: dataclasses.Field[Any]) -> ParameterDescriptor:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    rule: Rule = item.metadata["rule"]
    descriptor = ParameterDescriptor(
        description=rule.description,
        additional_constraints=f"{describe(item)}; {_when(rule)}",
        read_only=rule.at_start,
    )
    if rule.maximum and isinstance(item.default, int):
        descriptor.integer_range = [
            IntegerRange(from_value=int(rule.minimum), to_value=int(rule.maximum), step=rule.step)
        ]
    elif rule.maximum:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=rule.minimum, to_value=rule.maximum, step=0.0)
        ]
    # An empty list has no type in ROS, and `cameras: []` must be possible.
    descriptor.dynamic_typing = isinstance(item.default, tuple)
    return descriptor


if __name__ == "__main__":
    print(to_markdown() if "--markdown" in sys.argv else to_yaml(), end="")
