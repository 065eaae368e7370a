"""The depth of one camera: its topics in, people in space and their markers out.

The executor's thread stores what arrives; the worker's thread asks for the depth of an image when
it knows its people.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pose_node.camera_model import CameraModel
from pose_node.depth import DepthOptions, Poses3D, lift
from pose_node.depth_images import check_depth, to_depth
from pose_node.errors import CalibrationError, ImageError, PoseNodeError
from pose_node.imaging import CompressedImage as CompressedDepth
from pose_node.imaging import RawImage
from pose_node.msg import PersonPose3DArray
from pose_node.poses import Frame, Poses, Skeleton
from pose_node.ros import messages, start_up
from pose_node.ros.markers import OPTICAL_UP, PersonMarkers
from pose_node.ros.stamp_buffer import StampBuffer
from pose_node.ros.statistics import DepthStatistics
from pose_node.ros.target_frame import TargetFrame, check_target_frame
from pose_node.ros.throttle import Throttle

__all__ = ["DepthOptions", "DepthTopics", "check_target_frame"]

COMPRESSED_DEPTH = "compressedDepth"

_BUFFERED = 30  # images: a second of a usual camera, longer than any image is worked on
_BUFFERED_BYTES = 128 << 20  # half a second of 1920x1080 in float32
_WARN_SECONDS = 10.0
_BODY_UP = (0.0, 0.0, 1.0)  # REP-103, in every frame but those of cameras


class DepthTopics:
    """Subscriptions and publishers of one camera's depth.

    Args:
        node: the node that they belong to.
        camera: its name, "" for the only one; prefix of the topics.
        transport: "raw" or "compressedDepth".
        warn: called with warnings, each kind at most once in a while.
        target_frame: TF frame of everything that is published, "" for the camera's own.

    Raises:
        ValueError: `target_frame` cannot be used, see `check_target_frame`.
    """

    def __init__(
        self,
        node: LifecycleNode,
        camera: str,
        transport: str,
        warn: Callable[[str], object],
        *,
        target_frame: str = "",
    ) -> None:
        self._node = node
        self._warn = warn
        self.statistics = DepthStatistics()
        self._throttle = Throttle(seconds=_WARN_SECONDS)
        self._compressed = transport == COMPRESSED_DEPTH
        self._prefix = f"{camera}/" if camera else ""
        depth = node.resolve_topic_name(f"{self._prefix}depth/image_raw")
        # As image_transport has it: whoever remaps an image takes its compressed form along.
        self.topic = f"{depth}/{COMPRESSED_DEPTH}" if self._compressed else depth
        self.camera_info_topic = _camera_info_topic(node, self._prefix)
        self._subscriptions: list[Subscription[Any]] = []
        self._buffer: StampBuffer[RawImage | CompressedDepth]
        self._buffer = StampBuffer(_BUFFERED, _BUFFERED_BYTES)
        self._max_pixels: Callable[[], int] = lambda: 0
        self._info: CameraInfo | None = None
        self._info_refused = ""
        self._calibrated: tuple[CameraInfo, bool, CameraModel] | None = None
        self._target = TargetFrame(node, target_frame) if target_frame else None
        self._markers = PersonMarkers()
        self._points_publisher: Publisher[Any] = node.create_publisher(
            PersonPose3DArray, f"{self._prefix}poses_3d", QoSProfile(depth=5)
        )
        self._marker_publisher: Publisher[Any] = node.create_publisher(
            MarkerArray, f"{self._prefix}markers", QoSProfile(depth=5)
        )

    def subscribe(self, max_pixels: Callable[[], int]) -> None:
        """Start to receive.

        Args:
            max_pixels: gives the limit that holds for a depth image.
        """
        self._max_pixels = max_pixels
        self._buffer = StampBuffer(_BUFFERED, _BUFFERED_BYTES)
        self._info = None
        kind = CompressedImage if self._compressed else Image
        self._subscriptions = [
            self._subscribe(kind, self.topic, self._on_depth, 5),
            self._subscribe(CameraInfo, self.camera_info_topic, self._on_camera_info, 1),
        ]

    def unsubscribe(self) -> None:
        """Stop to receive, and wake the worker if it waits for depth."""
        self._buffer.close()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def deliver(
        self,
        header: Header,
        frame: Frame,
        poses: Poses,
        skeleton: Skeleton,
        *,
        options: DepthOptions,
        always: bool = False,
    ) -> tuple[Header, Poses3D] | None:
        """Publish the people of an image in space, as far as anyone listens.

        In the worker's thread. Without depth, all points are unknown and a warning says why.

        Args:
            header: of the image.
            frame, poses, skeleton: the image and its people.
            options: how.
            always: find the people in space even though nobody listens.

        Returns:
            The people, and a header with their frame: the image's own or the target frame. None if
            nobody wants them.
        """
        wants_points = self._points_publisher.get_subscription_count() > 0
        wants_markers = self._marker_publisher.get_subscription_count() > 0
        if not (wants_points or wants_markers or always):
            return None
        found = True
        try:
            people = self._find(header, frame, poses, skeleton, options)
            self.statistics.matched()
        except PoseNodeError as error:
            found, people = False, Poses3D.unknown(poses)
            self.statistics.missed(str(error))
            self._complain(error)
        frame_id = header.frame_id if self._target is None else self._target.name
        shown = Header(stamp=header.stamp, frame_id=frame_id)
        if wants_points:
            message = messages.to_pose_array_3d(shown, people, skeleton=skeleton.name)
            self._points_publisher.publish(message)
        if wants_markers and found:  # else those of before stay until their lifetime ends
            markers = self._markers.update(
                shown,
                people,
                skeleton,
                lifetime=options.marker_lifetime,
                up=OPTICAL_UP if self._target is None else _BODY_UP,
            )
            self._marker_publisher.publish(markers)
        return shown, people

    def explain_silence(self) -> list[str]:
        """Why nothing can be found in space, as far as it is for lack of messages."""
        if not self._subscriptions:
            return []
        reasons = []
        if self.statistics.report().received == 0:
            reasons.append(
                start_up.explain_no_depth(
                    f"{self._prefix}depth/image_raw",
                    self.topic,
                    start_up.COMPRESSED if self._compressed else start_up.RAW,
                    self._node.get_publishers_info_by_topic(self.topic),
                    self._node.get_topic_names_and_types(),
                )
            )
        if self._info is None:
            reasons.append(
                f"no CameraInfo on {self.camera_info_topic}: remap it with "
                f"`-r {self._prefix}camera_info:=...` to that of the colour camera"
            )
        return reasons

    def clear(self) -> None:
        """Take the markers from RViz; call it when the worker is at rest."""
        if self._node.context.ok():  # after a shutdown nobody can be told
            self._marker_publisher.publish(self._markers.clear(Header()))

    def destroy(self) -> None:
        """Take the topics away, and the markers from RViz."""
        self.unsubscribe()
        self.clear()
        for publisher in (self._points_publisher, self._marker_publisher):
            self._node.destroy_publisher(publisher)
        if self._target is not None:
            self._target.destroy()

    def _subscribe(
        self, kind: type, topic: str, callback: Callable[[Any], None], depth: int
    ) -> Subscription[Any]:
        return self._node.create_subscription(
            kind,
            topic,
            callback,
            QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT),
            raw=True,  # damaged messages can crash rclpy
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _on_depth(self, data: bytes) -> None:
        """In the executor's thread: check and store, nothing else."""
        self.statistics.received()
        read = messages.read_compressed_image if self._compressed else messages.read_image
        try:
            header, image = read(data)
            check_depth(image, max_pixels=self._max_pixels())
        except ImageError as error:
            self.statistics.refused(str(error))
            self._complain(error)
            return
        self._buffer.put(messages.to_stamp_ns(header), image, len(data))

    def _on_camera_info(self, data: bytes) -> None:
        try:
            self._info = messages.read_camera_info(data)
        except ImageError as error:
            self._info_refused = f": the last one was refused, {error}"
            self._complain(error)

    def _find(
        self,
        header: Header,
        frame: Frame,
        poses: Poses,
        skeleton: Skeleton,
        options: DepthOptions,
    ) -> Poses3D:
        """The people in space, in the target frame if there is one. Raises PoseNodeError."""
        image = self._buffer.nearest(
            frame.stamp_ns, slop_ns=round(options.slop * 1e9), patience_s=options.patience
        )
        if image is None:
            raise ImageError(self._explain_miss(frame.stamp_ns, options.slop), kind="no depth")
        people = lift(
            poses,
            to_depth(image, max_pixels=self._max_pixels()),
            self._camera(options.rectified).for_image(frame.width, frame.height),
            skeleton=skeleton,
            keypoint_threshold=options.keypoint_threshold,
        )
        if self._target is None or not len(people):
            return people
        return self._target.transform(header, people, patience_s=options.patience)

    def _camera(self, rectified: bool) -> CameraModel:
        info = self._info
        if info is None:
            raise CalibrationError(
                f"no CameraInfo has come on {self.camera_info_topic}"
                + (
                    self._info_refused
                    or f": remap {self._prefix}camera_info to that of the colour camera"
                )
            )
        if self._calibrated is not None:
            known, was_rectified, camera = self._calibrated
            if known is info and was_rectified == rectified:
                return camera
        camera = messages.to_camera_model(info, rectified=rectified)
        self._calibrated = (info, rectified, camera)
        return camera

    def _explain_miss(self, stamp_ns: int, slop: float) -> str:
        offset = self._buffer.offset_ns(stamp_ns)
        start = f"no depth image within {slop * 1e3:g} ms of the colour image: "
        if offset is None:
            return start + f"none has come on {self.topic}"
        side = "later" if offset > 0 else "earlier"
        return start + (
            f"the nearest on {self.topic} is {abs(offset) / 1e6:.1f} ms {side}; synchronise the "
            "streams, or allow more if nothing moves fast"
        )

    def _complain(self, error: PoseNodeError) -> None:
        if self._throttle.lets_through(getattr(error, "kind", type(error).__name__)):
            self._warn(f"depth of {self.topic}: {error}")


def _camera_info_topic(node: LifecycleNode, prefix: str) -> str:
    """Where the user remaps it to; else beside the colour image, as image_transport has it."""
    name = f"{prefix}camera_info"
    resolved = str(node.resolve_topic_name(name))
    if resolved != node.resolve_topic_name(name, only_expand=True):
        return resolved
    image = str(node.resolve_topic_name(f"{prefix}image_raw"))
    return f"{image.rpartition('/')[0]}/camera_info"
