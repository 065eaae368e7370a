"""The annotated image of the exercise counter: bars and counts on somebody else's image.

Images are received only while somebody looks at the result.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from pose_node import imaging
from pose_node.errors import ImageError
from pose_node.exercise import PersonProgress
from pose_node.exercise_drawing import draw_progress
from pose_node.msg import PersonPoseArray
from pose_node.poses import Poses
from pose_node.ros import messages

INPUT = "image_annotated"
OUTPUT = "exercise/image_annotated"

# An image may come before or after its people; those that find no partner must not pile up.
_KEPT_IMAGES = 8
_KEPT_PEOPLE = 64


@dataclass(frozen=True)
class _People:
    """The people of an image of this size, and how far they are."""

    poses: Poses
    progress: Sequence[PersonProgress]
    size: tuple[int, int]  # width, height, pixels


class ExercisePicture:
    """Joins images and people by their stamps, draws and publishes.

    Args:
        node: the node that the topics belong to.
        transport: "raw" or "compressed": which images to receive.
        max_pixels, jpeg_quality: give the values that hold now.
        refuse: called with the error of an image that cannot be used.
    """

    def __init__(
        self,
        node: Node,
        transport: str,
        *,
        max_pixels: Callable[[], int],
        jpeg_quality: Callable[[], int],
        refuse: Callable[[ImageError], object],
    ) -> None:
        self._node = node
        self._transport = transport
        self._max_pixels = max_pixels
        self._jpeg_quality = jpeg_quality
        self._refuse = refuse
        self._subscription: Subscription[Any] | None = None
        self._images: OrderedDict[int, Any] = OrderedDict()
        self._people: OrderedDict[int, _People] = OrderedDict()
        quality = QoSProfile(depth=1)
        self._raw = node.create_publisher(Image, OUTPUT, quality)
        # As image_transport has it: whoever remaps an image takes its compressed form along.
        output = node.resolve_topic_name(OUTPUT)
        self._jpeg = node.create_publisher(CompressedImage, f"{output}/compressed", quality)

    @property
    def is_listening(self) -> bool:
        """Whether images are received."""
        return self._subscription is not None

    def take(
        self, message: PersonPoseArray, poses: Poses, progress: Sequence[PersonProgress]
    ) -> None:
        """Take the people of an image; called for every image, it also sees who looks."""
        self._listen_while_somebody_looks()
        if self._subscription is None:
            return
        stamp_ns = messages.to_stamp_ns(message.header)
        people = _People(poses, progress, (message.image_width, message.image_height))
        _keep(self._people, stamp_ns, people, _KEPT_PEOPLE)
        self._publish_if_complete(stamp_ns)

    def _listen_while_somebody_looks(self) -> None:
        looks = any(p.get_subscription_count() > 0 for p in (self._raw, self._jpeg))
        if looks and self._subscription is None:
            compressed = self._transport == "compressed"
            topic = self._node.resolve_topic_name(INPUT)
            self._subscription = self._node.create_subscription(
                CompressedImage if compressed else Image,
                f"{topic}/compressed" if compressed else topic,
                self._on_image,
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
            )
        elif not looks and self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
            self._images.clear()
            self._people.clear()

    def _on_image(self, message: Image | CompressedImage) -> None:
        stamp_ns = messages.to_stamp_ns(message.header)
        _keep(self._images, stamp_ns, message, _KEPT_IMAGES)
        self._publish_if_complete(stamp_ns)

    def _publish_if_complete(self, stamp_ns: int) -> None:
        if stamp_ns not in self._images or stamp_ns not in self._people:
            return
        message, people = self._images.pop(stamp_ns), self._people.pop(stamp_ns)
        try:
            image = self._to_bgr(message)
        except ImageError as error:
            self._refuse(error)
            return
        height, width = image.shape[:2]
        picture = draw_progress(image, _scaled(people, width, height), people.progress)
        if self._raw.get_subscription_count() > 0:
            self._raw.publish(messages.to_image(message.header, picture))
        if self._jpeg.get_subscription_count() > 0:
            jpeg = imaging.encode_jpeg(picture, self._jpeg_quality())
            self._jpeg.publish(messages.to_compressed_image(message.header, jpeg))

    def _to_bgr(self, message: Image | CompressedImage) -> np.ndarray:
        read: Any = (
            messages.from_image if isinstance(message, Image) else messages.from_compressed_image
        )
        image, limit = read(message), self._max_pixels()
        imaging.check(image, max_pixels=limit)
        array, order = imaging.to_array(image, max_pixels=limit)
        return array if order == "bgr" else array[:, :, ::-1]


def _keep(store: OrderedDict[int, Any], stamp_ns: int, item: Any, count: int) -> None:
    store[stamp_ns] = item
    while len(store) > count:
        store.popitem(last=False)


def _scaled(people: _People, width: int, height: int) -> Poses:
    """The people in pixels of an image that may be smaller or larger than theirs."""
    if people.size == (width, height) or 0 in people.size:
        return people.poses
    scale = np.array((width / people.size[0], height / people.size[1]) * 2, np.float32)
    return replace(people.poses, boxes_xyxy=people.poses.boxes_xyxy * scale)
