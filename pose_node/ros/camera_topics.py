"""The topics of one camera: where its images come from and where its people go."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.event_handler import (
    QoSMessageLostInfo,
    QoSRequestedIncompatibleQoSInfo,
    SubscriptionEventCallbacks,
    UnsupportedEventTypeError,
)
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from pose_node import imaging
from pose_node.drawing import draw_frame
from pose_node.errors import ImageError
from pose_node.msg import PersonPoseArray
from pose_node.poses import Frame, Poses, Skeleton
from pose_node.ros import messages, start_up
from pose_node.ros.statistics import CameraStatistics


@dataclass(frozen=True)
class ArrivedImage:
    """An image as it came, not decoded yet; that is for the worker.

    Attributes:
        camera: key of its camera.
        header: of its message.
        image: its bytes and what they mean.
        max_pixels: more are refused.
        arrived: when it came, by `time.monotonic`.
        reduction: how many times smaller an image of some width and height is decoded, if it can
            be; asked when it is its turn.
    """

    camera: str
    header: Header
    image: imaging.RawImage | imaging.CompressedImage
    max_pixels: int
    arrived: float
    reduction: Callable[[int, int], int]

    def to_frame(self) -> Frame:
        """Decode it.

        Raises:
            ImageError: it is damaged.
        """
        size = imaging.reducible_size(self.image)
        reduction = self.reduction(*size) if size else 1
        array, order = imaging.to_array(self.image, max_pixels=self.max_pixels, reduction=reduction)
        return Frame(
            camera=self.camera,
            frame_id=self.header.frame_id,
            stamp_ns=messages.to_stamp_ns(self.header),
            image=array,
            channel_order=order,
            reduction=reduction,
            original_size=size,
        )


class CameraTopics:
    """Subscription, publishers and counters of one camera.

    Args:
        node: the node that they belong to.
        camera: its name, "" for the only one; prefix of the topics.
        transport: "raw" or "compressed".
        warn: called with warnings that are given once.
        unsmoothed: publish people also where the network found them.
    """

    def __init__(
        self,
        node: LifecycleNode,
        camera: str,
        transport: str,
        warn: Callable[[str], object],
        *,
        unsmoothed: bool = False,
    ) -> None:
        self.camera = camera
        self.statistics = CameraStatistics()
        self._node = node
        self._warn = warn
        self._prefix = f"{camera}/" if camera else ""
        self._compressed = transport == "compressed"
        self._subscription: Subscription[Any] | None = None
        self._stamp_checked = False
        self._heard = False
        self._poses = self._publisher(PersonPoseArray, "poses", 5)
        self._unsmoothed: Publisher[Any] | None = None
        if unsmoothed:
            self._unsmoothed = self._publisher(PersonPoseArray, "poses_unsmoothed", 5)
        self._annotated = self._publisher(Image, "image_annotated", 1)
        # As image_transport has it: whoever remaps an image takes its compressed form along.
        annotated = node.resolve_topic_name(f"{self._prefix}image_annotated")
        self._annotated_jpeg = node.create_publisher(
            CompressedImage, f"{annotated}/compressed", QoSProfile(depth=1)
        )
        suffix = "/compressed" if self._compressed else ""
        self._topic = f"{self._prefix}image_raw{suffix}"
        image = node.resolve_topic_name(f"{self._prefix}image_raw")
        self.topic = node.resolve_topic_name(f"{image}{suffix}")

    def subscribe(
        self,
        callback: Callable[[CameraTopics, ArrivedImage], None],
        max_pixels: Callable[[], int],
        refuse: Callable[[str, ImageError], None],
        reduction: Callable[[int, int], int],
    ) -> None:
        """Start to receive.

        Args:
            callback: gets every image, unchecked, in the executor's thread.
            max_pixels: gives the limit that holds for an image.
            refuse: gets the camera's name and the error where a message is no image.
            reduction: says how many times smaller an image of some width and height may be decoded,
                while nobody wants to see it annotated; called in the worker's thread.
        """
        read = messages.read_compressed_image if self._compressed else messages.read_image

        def choose_reduction(width: int, height: int) -> int:
            return 1 if self._wants_annotated() else reduction(width, height)

        def receive(data: bytes) -> None:
            now = time.monotonic()
            self._heard = True
            try:
                header, image = read(data)
            except ImageError as error:
                self.statistics.received(math.nan)
                refuse(self.camera, error)
                return
            self._check_stamp(header)
            arrived = ArrivedImage(self.camera, header, image, max_pixels(), now, choose_reduction)
            callback(self, arrived)

        def create(events: SubscriptionEventCallbacks) -> Subscription[Any]:
            return self._node.create_subscription(
                CompressedImage if self._compressed else Image,
                self.topic,
                receive,
                # A new one: rclpy writes the overrides of the user into it.
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
                raw=True,
                event_callbacks=events,
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )

        self._heard = False
        incompatible_qos = self._on_incompatible_qos
        try:
            self._subscription = create(
                SubscriptionEventCallbacks(
                    incompatible_qos=incompatible_qos, message_lost=self._on_lost
                )
            )
        except UnsupportedEventTypeError:  # not every middleware counts what it loses
            self._subscription = create(
                SubscriptionEventCallbacks(incompatible_qos=incompatible_qos)
            )

    def unsubscribe(self) -> None:
        """Stop to receive."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def publish(
        self,
        header: Header,
        frame: Frame,
        poses: Poses,
        skeleton: Skeleton,
        *,
        unsmoothed: Poses,
    ) -> None:
        """Publish the people of an image."""

        def serialize(people: Poses) -> bytes:
            return messages.serialize_pose_array(
                header, people, width=frame.width, height=frame.height, skeleton=skeleton.name
            )

        self._poses.publish(serialize(poses))
        if self._unsmoothed is not None and self._unsmoothed.get_subscription_count() > 0:
            self._unsmoothed.publish(serialize(unsmoothed))

    def publish_annotated(
        self,
        header: Header,
        frame: Frame,
        poses: Poses,
        skeleton: Skeleton,
        *,
        keypoint_threshold: float,
        jpeg_quality: int,
    ) -> None:
        """Draw and publish the annotated image, as far as anyone listens.

        One that was decoded smaller, because nobody listened then, is left out.
        """
        if frame.reduction > 1 or not self._wants_annotated():
            return
        picture = draw_frame(frame, poses, skeleton, keypoint_threshold=keypoint_threshold)
        if self._annotated.get_subscription_count() > 0:
            self._annotated.publish(messages.serialize_image(header, picture))
        if self._annotated_jpeg.get_subscription_count() > 0:
            jpeg = imaging.encode_jpeg(picture, jpeg_quality)
            self._annotated_jpeg.publish(messages.serialize_compressed_image(header, jpeg))

    def explain_silence(self) -> str | None:
        """Why no image has come since `subscribe`; None if one has."""
        if self._heard or self._subscription is None:
            return None
        own = {publisher.topic_name for publisher in self._node.publishers}
        return start_up.explain_silence(
            self._topic,
            self.topic,
            start_up.COMPRESSED if self._compressed else start_up.RAW,
            self._subscription.qos_profile,
            self._node.get_publishers_info_by_topic(self.topic),
            [item for item in self._node.get_topic_names_and_types() if item[0] not in own],
        )

    def destroy(self) -> None:
        """Take the topics away."""
        self.unsubscribe()
        for publisher in (self._poses, self._unsmoothed, self._annotated, self._annotated_jpeg):
            if publisher is not None:
                self._node.destroy_publisher(publisher)

    def _publisher(self, kind: type, name: str, depth: int) -> Publisher[Any]:
        return self._node.create_publisher(kind, f"{self._prefix}{name}", QoSProfile(depth=depth))

    def _wants_annotated(self) -> bool:
        publishers = (self._annotated, self._annotated_jpeg)
        return any(publisher.get_subscription_count() > 0 for publisher in publishers)

    def _check_stamp(self, header: Header) -> None:
        if not self._stamp_checked:
            self._stamp_checked = True
            if messages.to_stamp_ns(header) == 0:
                self._warn(start_up.explain_zero_stamp(self.topic))

    def _on_incompatible_qos(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        policy = QoSPolicyKind(event.last_policy_kind).name.lower()
        self._warn(start_up.explain_incompatible_qos(self.topic, policy))

    def _on_lost(self, event: QoSMessageLostInfo) -> None:
        self.statistics.lost(event.total_count_change)
