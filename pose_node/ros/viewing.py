"""``pose-node view --live``: what a running node sees, in the Rerun viewer.

Subscribes to people, images and points in space of any number of cameras, joins them by their
stamps, and logs them as ``pose-node view`` does with results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import rclpy
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image

from pose_node import imaging
from pose_node.errors import ImageError, PoseNodeError
from pose_node.msg import PersonPose3DArray, PersonPoseArray, SkeletonInfo
from pose_node.poses import Skeleton
from pose_node.ros import messages
from pose_node.ros.signals import note_signals
from pose_node.ros.spinning import Spinner
from pose_node.ros.throttle import Throttle
from pose_node.ros.transport import prepare_process
from pose_node.skeletons import BUILT_IN
from pose_node.viewing.joining import StampJoiner
from pose_node.viewing.options import add_view_arguments, check_view_arguments, open_destination
from pose_node.viewing.pose_log import PoseLog, ViewedFrame

_WARNING_SECONDS = 30.0
_SILENCE_SECONDS = 5.0


class FrameLog(Protocol):
    """Takes what is to be seen; `pose_node.viewing.pose_log.PoseLog` is one."""

    def write(self, frame: ViewedFrame, skeleton: Skeleton) -> None:
        """Log one frame."""


class LiveView(Node):
    """Logs what pose nodes publish.

    Args:
        log: what to write to.
        cameras: names of the cameras, prefixes of their topics; "" for none.
        images: topic of the images, such as "image_raw"; "" for none.
        compressed: receive the images compressed.
        arguments: of `rclpy.node.Node`.

    Attributes:
        num_frames: frames that were logged.
    """

    def __init__(
        self,
        log: FrameLog,
        *,
        cameras: Sequence[str] = ("",),
        images: str = "image_raw",
        compressed: bool = False,
        **arguments: Any,
    ) -> None:
        super().__init__("pose_view", **arguments)
        self.num_frames = 0
        self._log = log
        self._skeletons = dict(BUILT_IN)
        self._throttle = Throttle(seconds=_WARNING_SECONDS)
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(SkeletonInfo, "skeleton_info", self._on_skeleton, latched)
        self._topics = [
            topic for camera in cameras for topic in self._subscribe(camera, images, compressed)
        ]
        self.create_timer(_SILENCE_SECONDS, self._explain_silence)

    def _subscribe(self, camera: str, images: str, compressed: bool) -> list[str]:
        """Subscribe to one camera; the topics of its people."""
        prefix = f"{camera}/" if camera else ""
        joiner = StampJoiner("poses")

        def listen(kind: type, topic: str, part: str, quality: QoSProfile) -> str:
            def receive(message: Any) -> None:
                # A camera that sets no stamps: the time of arrival is the best there is.
                now_ns = self.get_clock().now().nanoseconds
                stamp_ns = messages.to_stamp_ns(message.header) or now_ns
                for stamp, parts in joiner.put(stamp_ns, part, message):
                    self._write(camera, stamp, parts)

            return self.create_subscription(kind, topic, receive, quality).topic_name

        found = [listen(PersonPoseArray, f"{prefix}poses", "poses", QoSProfile(depth=10))]
        listen(PersonPose3DArray, f"{prefix}poses_3d", "poses_3d", QoSProfile(depth=10))
        if images:
            topic = self.resolve_topic_name(f"{prefix}{images}")
            listen(
                CompressedImage if compressed else Image,
                f"{topic}/compressed" if compressed else topic,
                "image",
                QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT),
            )
        return found

    def _write(self, camera: str, stamp_ns: int, parts: dict[str, Any]) -> None:
        people: PersonPoseArray = parts["poses"]
        skeleton = self._skeletons.get(people.skeleton)
        if skeleton is None:
            self._warn("skeleton", f"waiting for {people.skeleton!r} on skeleton_info")
            return
        try:
            frame = ViewedFrame(
                camera=camera,
                index=None,
                stamp_ns=stamp_ns,
                poses=messages.to_poses(people, skeleton.num_keypoints),
                **self._image(parts.get("image")),
                **_in_space(parts.get("poses_3d"), people, skeleton),
            )
            self._log.write(frame, skeleton)
        except ValueError as error:
            self._warn("message", f"people that cannot be used are left out: {error}")
            return
        self.num_frames += 1

    def _image(self, message: Image | CompressedImage | None) -> dict[str, Any]:
        """Fields of the frame."""
        if message is None:
            return {}
        read: Any = (
            messages.from_image if isinstance(message, Image) else messages.from_compressed_image
        )
        image, limit = read(message), imaging.DEFAULT_MAX_PIXELS
        try:
            imaging.check(image, max_pixels=limit)
            array, order = imaging.to_array(image, max_pixels=limit)
        except ImageError as error:
            self._warn(error.kind, f"image refused: {error}")
            return {}
        return {"image": array, "channel_order": order}

    def _on_skeleton(self, message: SkeletonInfo) -> None:
        try:
            skeleton = messages.from_skeleton_info(message)
        except ValueError as error:
            self._warn("skeleton_info", f"skeleton refused: {error}")
            return
        self._skeletons[skeleton.name] = skeleton

    def _explain_silence(self) -> None:
        if self.num_frames == 0:
            topics = ", ".join(self._topics)
            self._warn("silence", f"nothing has come on {topics} yet; is the pose node running?")

    def _warn(self, kind: str, text: str) -> None:
        if self._throttle.lets_through(kind):
            self.get_logger().warning(text)


def _in_space(
    message: PersonPose3DArray | None, people: PersonPoseArray, skeleton: Skeleton
) -> dict[str, Any]:
    """Fields of the frame."""
    if message is None:
        return {}
    own = message.header.frame_id == people.header.frame_id
    return {
        "people_3d": messages.to_poses_3d(message, skeleton.num_keypoints),
        "axes": "optical" if own else "up",
    }


# --- The process --------------------------------------------------------------------------------


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line, without its ROS part. Exits as argparse does."""
    parser = argparse.ArgumentParser(
        prog="pose-node view --live",
        description="Show what a running pose node sees in the Rerun viewer. Remap with "
        "--ros-args. --log-level debug, info, warn or error: what is logged.",
        epilog="examples:\n"
        "  pose-node view --live\n"
        "  pose-node view --live --serve --camera front --camera rear\n"
        "  pose-node view --live --save session.rrd --images image_raw --compressed\n"
        "  pose-node view --live --ros-args -r image_raw:=/camera/image_raw",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--live", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--camera",
        action="append",
        metavar="NAME",
        help="a camera of a node with several; give it for each",
    )
    parser.add_argument(
        "--images",
        default="image_raw",
        metavar="TOPIC",
        help="of the images, for example image_annotated; '' for none (image_raw)",
    )
    parser.add_argument(
        "--compressed", action="store_true", help="receive TOPIC/compressed instead"
    )
    add_view_arguments(parser)
    options = parser.parse_args(arguments)
    check_view_arguments(parser, options)
    return options


def main(args: Sequence[str] | None = None) -> int:
    """Show a running node until Ctrl-C, SIGTERM or the end of the context.

    Args:
        args: command line without the program's name; that of the process by default.

    Returns:
        The exit code: 0 after a clean end, 1 if it cannot start.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        options = parse_options(remove_ros_args(["view", *arguments])[1:])
        return _run(arguments, options)
    except (PoseNodeError, ValueError, ParameterException, NameValidationException) as error:
        print(f"pose-node view: error: {error}", file=sys.stderr)
    except RuntimeError as error:  # of rclpy, whose own classes for it are private
        print(
            f"pose-node view: error: ROS cannot start with these arguments: {error}",
            file=sys.stderr,
        )
    finally:
        rclpy.try_shutdown()
    return 1


def _run(arguments: Sequence[str], options: argparse.Namespace) -> int:
    warnings = prepare_process()
    signalled = note_signals()
    destination = open_destination(options)
    try:
        rclpy.init(args=["view", *arguments], signal_handler_options=SignalHandlerOptions.NO)
        log = PoseLog(
            destination.stream,
            keypoint_threshold=options.keypoint_threshold,
            jpeg_quality=options.jpeg_quality,
        )
        node = LiveView(
            log,
            cameras=options.camera or [""],
            images=options.images,
            compressed=options.compressed,
        )
        for warning in warnings:
            node.get_logger().warning(warning)
        try:
            spinner = Spinner(node, fatal=(PoseNodeError,))  # the recording cannot be written
            while not signalled and spinner.turn():
                pass
            # Before DDS ends, which takes its time: what was seen is safe then.
            print(f"{node.num_frames} frames; {destination.close()}", flush=True)
        finally:
            node.destroy_node()
    except BaseException:
        destination.abort()
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
