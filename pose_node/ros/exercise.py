"""The exercise counter: a node of its own that needs nothing but `poses`.

It counts repetitions for every person by their track id, publishes `exercise_state`, and draws bars
and counts on an image while somebody looks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from std_srvs.srv import Trigger

from pose_node.errors import ExerciseError, PoseNodeError
from pose_node.exercise import ExerciseCounter, PersonProgress
from pose_node.exercise_definitions import built_in_exercises, choose_exercises, load_exercises
from pose_node.imaging import DEFAULT_MAX_PIXELS
from pose_node.msg import ExerciseState, PersonPoseArray, SkeletonInfo
from pose_node.poses import Skeleton
from pose_node.ros import messages
from pose_node.ros.declared_parameters import Parameters, parameter
from pose_node.ros.exercise_picture import ExercisePicture
from pose_node.ros.signals import note_signals
from pose_node.ros.spinning import Spinner
from pose_node.ros.throttle import Throttle
from pose_node.ros.transport import prepare_process
from pose_node.skeletons import BUILT_IN

_WARNING_SECONDS = 30.0


@dataclass(frozen=True)
class ExerciseParameters(Parameters):
    """The parameters of the exercise counter."""

    exercises: tuple[str, ...] = parameter(
        ("squat",),
        "Names of the exercises to count; changing them starts all counts anew.",
        pattern=r".+",
        expected="names of exercises, at least one",
    )
    definitions: str = parameter(
        "",
        "YAML file with exercises of your own, as in config/exercises.yaml; one with the name of a "
        "built-in one takes its place.",
    )
    forget_after: float = parameter(
        60.0,
        "Seconds out of view after which the counts of a person are dropped.",
        minimum=1.0,
        maximum=86400.0,
    )
    image_transport: str = parameter(
        "raw",
        "Which images to draw on: raw (topic image_annotated) or compressed "
        "(image_annotated/compressed).",
        pattern=r"raw|compressed",
        expected="raw or compressed",
        at_start=True,
    )
    max_image_pixels: int = parameter(
        DEFAULT_MAX_PIXELS,
        "Images with more pixels are refused unread.",
        minimum=1,
        maximum=2**31 - 1,
    )
    annotated_jpeg_quality: int = parameter(
        80, "Quality of exercise/image_annotated/compressed.", minimum=1, maximum=100
    )


class ExerciseNode(Node):
    """Counts exercises of the people in `poses`.

    Args:
        arguments: of `rclpy.node.Node`.

    Raises:
        ValueError, ExerciseError: a parameter is wrong.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__("exercise_counter", **arguments)
        try:
            self.parameters = ExerciseParameters.declare(self)
            self._exercises = choose_exercises(
                self.parameters.exercises, self.parameters.definitions
            )
        except Exception:
            self.destroy_node()
            raise
        self._counter: ExerciseCounter | None = None  # known with the first skeleton
        self._skeleton: Skeleton | None = None
        self._skeletons = dict(BUILT_IN)
        self._throttle = Throttle(seconds=_WARNING_SECONDS)
        self._waits_for_skeleton = False
        # One message for each person, exercise and side: room for those of several images.
        self._states = self.create_publisher(ExerciseState, "exercise_state", 100)
        self._picture = ExercisePicture(
            self,
            self.parameters.image_transport,
            max_pixels=lambda: self.parameters.max_image_pixels,
            jpeg_quality=lambda: self.parameters.annotated_jpeg_quality,
            refuse=lambda error: self._warn(error.kind, f"image refused: {error}"),
        )
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._take_parameters)
        poses = self.create_subscription(PersonPoseArray, "poses", self._on_poses, 10)
        names = ", ".join(exercise.name for exercise in self._exercises)
        self.get_logger().info(f"counting {names} of the people on {poses.topic_name}")

    # People in, counts out

    def _on_poses(self, message: PersonPoseArray) -> None:
        counter = self._counter_of(message.skeleton)
        if counter is None or self._skeleton is None:
            return
        # A camera that sets no stamps: the time of arrival is the best there is.
        stamp_ns = messages.to_stamp_ns(message.header) or self.get_clock().now().nanoseconds
        try:
            poses = messages.to_poses(message, self._skeleton.num_keypoints)
            progress = counter.update(stamp_ns, poses)
        except ValueError as error:
            self._warn("message", f"people that cannot be used are left out: {error}")
            return
        for item in progress:
            self._states.publish(messages.to_exercise_state(message.header, item))
            if item.counted:
                self.get_logger().info(_describe(item))
        if counter.unidentified:
            self._warn(
                "unidentified",
                f"{counter.unidentified} people in view have no track id and cannot be told apart: "
                "nothing is counted; switch the tracker of the pose node on, or let only one "
                "person into view",
            )
        self._picture.take(message, poses, progress)

    def _counter_of(self, name: str) -> ExerciseCounter | None:
        """The counter for a skeleton; None while its keypoints are unknown or do not suffice."""
        if self._counter is not None and self._skeleton is not None and self._skeleton.name == name:
            return self._counter
        skeleton = self._skeletons.get(name)
        if skeleton is None:
            self._ask_for_skeleton(name)
            return None
        try:
            self._counter = ExerciseCounter(
                self._exercises, skeleton, forget_after=self.parameters.forget_after
            )
        except ExerciseError as error:
            self._warn("skeleton", f"nothing is counted: {error}")
            return None
        self._skeleton = skeleton
        return self._counter

    def _ask_for_skeleton(self, name: str) -> None:
        """Listen to `skeleton_info`, which only those need whose skeleton is not built in."""
        if not self._waits_for_skeleton:
            self._waits_for_skeleton = True
            latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self.create_subscription(SkeletonInfo, "skeleton_info", self._on_skeleton, latched)
        elif self._throttle.lets_through("unknown skeleton"):
            self.get_logger().info(f"waiting for the skeleton {name!r} on skeleton_info")

    def _on_skeleton(self, message: SkeletonInfo) -> None:
        try:
            skeleton = messages.from_skeleton_info(message)
        except ValueError as error:
            self._warn("skeleton_info", f"skeleton refused: {error}")
            return
        self._skeletons[skeleton.name] = skeleton
        if self._skeleton is not None and self._skeleton.name == skeleton.name:
            self._counter = None  # another network may have come by the same name

    # Service, parameters

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        count = self._counter.reset() if self._counter is not None else 0
        response.success = True
        response.message = f"counts of {count} {'person' if count == 1 else 'people'} reset"
        self.get_logger().info(response.message)
        return response

    def _check_parameters(self, given: list[Parameter[Any]]) -> SetParametersResult:
        try:
            new = self.parameters.changed(_values(given), active=False)
            choose_exercises(new.exercises, new.definitions)
        except (ValueError, ExerciseError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _take_parameters(self, given: list[Parameter[Any]]) -> None:
        old = self.parameters
        self.parameters = old.changed(_values(given), active=False)
        if (old.exercises, old.definitions) != (
            self.parameters.exercises,
            self.parameters.definitions,
        ):
            self._exercises = choose_exercises(
                self.parameters.exercises, self.parameters.definitions
            )
            self._counter = None
        elif self._counter is not None:
            self._counter.forget_after = self.parameters.forget_after

    def _warn(self, kind: str, text: str) -> None:
        if self._throttle.lets_through(kind):
            self.get_logger().warning(text)


def _values(given: Sequence[Parameter[Any]]) -> dict[str, Any]:
    return {item.name: item.value for item in given}


def _describe(item: PersonProgress) -> str:
    who = "person" if item.track_id < 0 else f"person {item.track_id}"
    side = "" if item.side in ("both", "either") else f" {item.side}"
    return f"{who}: {item.exercise}{side} {item.repetitions}"


# --- The process --------------------------------------------------------------------------------


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line, without its ROS part. Exits as argparse does."""
    parser = argparse.ArgumentParser(
        prog="pose-node exercise",
        description="Count repetitions of exercises of everybody in `poses`: per person, on "
        "exercise_state,\nand drawn on exercise/image_annotated. Remap with --ros-args.\n"
        "--log-level debug, info, warn or error: what is logged.",
        epilog="examples:\n"
        "  pose-node exercise squat\n"
        "  pose-node exercise bicep_curl shoulder_press --ros-args -r poses:=/front/poses\n"
        "  pose-node exercise lunge --definitions my_exercises.yaml\n"
        "  pose-node exercise --list",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "exercises",
        nargs="*",
        metavar="EXERCISE",
        help="what to count (default: the parameter `exercises`, which is squat)",
    )
    parser.add_argument(
        "--definitions", metavar="YAML", help="file with more exercises, as config/exercises.yaml"
    )
    parser.add_argument("--list", action="store_true", help="print the known exercises and end")
    return parser.parse_args(arguments)


def main(args: Sequence[str] | None = None) -> int:
    """Run the exercise counter until Ctrl-C, SIGTERM or the end of the context.

    Args:
        args: command line without the program's name; that of the process by default.

    Returns:
        The exit code: 0 after a clean end, 1 if the node cannot start.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        options = parse_options(remove_ros_args(["exercise", *arguments])[1:])
        if options.list:
            _print_exercises(options.definitions)
            return 0
        warnings = prepare_process()
        signalled = note_signals()
        node = _make_node(arguments, options)
    except (PoseNodeError, ValueError, ParameterException) as error:
        return _fail(str(error))
    except RuntimeError as error:  # of rclpy, whose own classes for it are private
        return _fail(f"ROS cannot start with these arguments: {error}")
    try:
        for warning in warnings:
            node.get_logger().warning(warning)
        spinner = Spinner(node)
        while not signalled and spinner.turn():
            pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _make_node(arguments: Sequence[str], options: argparse.Namespace) -> ExerciseNode:
    """Start ROS and make the node; what the command line says by itself goes before parameters."""
    rclpy.init(args=["exercise", *arguments], signal_handler_options=SignalHandlerOptions.NO)
    given = {"exercises": options.exercises, "definitions": options.definitions}
    return ExerciseNode(
        parameter_overrides=[Parameter(name, value=value) for name, value in given.items() if value]
    )


def _fail(reason: str) -> int:
    print(f"pose-node exercise: error: {reason}", file=sys.stderr)
    rclpy.try_shutdown()
    return 1


def _print_exercises(definitions: str | None) -> None:
    known = built_in_exercises()
    if definitions:
        known |= load_exercises(Path(definitions).expanduser())
    for exercise in known.values():
        ends = "; ".join(
            f"{'-'.join(angle.joints)} up {angle.up:g}, down {angle.down:g}"
            for angle in exercise.angles
        )
        print(f"{exercise.name}: {exercise.side}, from {exercise.start}; {ends}")
