"""The topics of all cameras of the node: their images and depth in, their people out."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode

from pose_node.errors import ImageError
from pose_node.pipeline import Found
from pose_node.poses import Skeleton
from pose_node.ros.adapters import Adapters
from pose_node.ros.camera_topics import ArrivedImage, CameraTopics
from pose_node.ros.depth_topics import DepthTopics
from pose_node.ros.parameters import NodeParameters


class NodeTopics:
    """Cameras by name, and the depth and adapters of each as far as they are switched on.

    Args:
        node: the node that they belong to.
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self.cameras: dict[str, CameraTopics] = {}
        self.depths: dict[str, DepthTopics] = {}
        self._adapters: dict[str, Adapters] = {}

    def create(self, parameters: NodeParameters) -> None:
        """Make the topics that the parameters ask for.

        Raises:
            ValueError: a parameter asks for a package that is not there.
        """
        node, warn = self._node, self._node.get_logger().warning
        for reason in explain_silent_adapters(parameters):
            warn(reason)
        for name in parameters.cameras:
            self.cameras[name] = CameraTopics(
                *(node, name, parameters.image_transport, warn),
                unsmoothed=parameters.publish_unsmoothed,
            )
            if parameters.depth:
                self.depths[name] = DepthTopics(
                    *(node, name, parameters.depth_transport, warn),
                    target_frame=parameters.target_frame,
                )
            if adapters := parameters.adapter_names():
                self._adapters[name] = Adapters(node, name, adapters)

    def subscribe(
        self,
        on_image: Callable[[CameraTopics, ArrivedImage], None],
        max_pixels: Callable[[], int],
        refuse: Callable[[str, ImageError], None],
        reduction: Callable[[int, int], int],
    ) -> None:
        """Start to receive.

        Args:
            on_image: gets every colour image, unchecked, in the executor's thread.
            max_pixels: gives the limit that holds for an image.
            refuse: gets a camera's name and the error where a message is no image.
            reduction: says how many times smaller an image of some width and height may be decoded.
        """
        for depth in self.depths.values():
            depth.subscribe(max_pixels)
        for camera in self.cameras.values():
            camera.subscribe(on_image, max_pixels, refuse, reduction)

    def unsubscribe(self) -> None:
        """Stop to receive."""
        for camera in self.cameras.values():
            camera.unsubscribe()
        for depth in self.depths.values():
            depth.unsubscribe()

    def clear(self) -> None:
        """Take away what is shown until something newer comes; call it when the worker rests."""
        for depth in self.depths.values():
            depth.clear()

    def destroy(self) -> None:
        """Take all topics away."""
        for camera in self.cameras.values():
            camera.destroy()
        for depth in self.depths.values():
            depth.destroy()
        for adapters in self._adapters.values():
            adapters.destroy()
        self.cameras, self.depths, self._adapters = {}, {}, {}

    def publish(self, arrived: ArrivedImage, found: Found, skeleton: Skeleton) -> float:
        """Publish the people of one image; in the worker's thread.

        Returns:
            Seconds that it took.
        """
        started = time.monotonic()
        self.cameras[arrived.camera].publish(
            *(arrived.header, found.frame, found.poses, skeleton), unsmoothed=found.unsmoothed
        )
        return time.monotonic() - started

    def publish_more(
        self, arrived: ArrivedImage, found: Found, skeleton: Skeleton, parameters: NodeParameters
    ) -> dict[str, float]:
        """The same for what can wait: people in space, adapters, the annotated image.

        Returns:
            Seconds for each stage.
        """
        stages = {}
        started = time.monotonic()
        if self.depths or self._adapters:
            self._publish_in_space(arrived, found, skeleton, parameters)
            stages["depth"] = time.monotonic() - started
        drawn = time.monotonic()
        self.cameras[arrived.camera].publish_annotated(
            *(arrived.header, found.frame, found.poses, skeleton),
            keypoint_threshold=parameters.draw_keypoint_threshold,
            jpeg_quality=parameters.annotated_jpeg_quality,
        )
        stages["annotate"] = time.monotonic() - drawn
        return stages

    def explain_silence(self) -> list[str]:
        """Why nothing has come since `subscribe`, as far as that is so."""
        cameras = [camera.explain_silence() for camera in self.cameras.values()]
        depths = [reason for depth in self.depths.values() for reason in depth.explain_silence()]
        return [*filter(None, cameras), *depths]

    def _publish_in_space(
        self, arrived: ArrivedImage, found: Found, skeleton: Skeleton, parameters: NodeParameters
    ) -> None:
        depth, adapters = self.depths.get(arrived.camera), self._adapters.get(arrived.camera)
        in_space = None
        if depth is not None:
            in_space = depth.deliver(
                # Where the depth image shows them: smoothed keypoints trail behind.
                *(arrived.header, found.frame, found.unsmoothed, skeleton),
                options=parameters.depth_options(),
                always=adapters is not None and adapters.wants_space,
            )
        if adapters is not None:
            adapters.publish(arrived.header, found.frame, found.poses, skeleton, in_space)


def explain_silent_adapters(parameters: NodeParameters) -> list[str]:
    """Say which adapters have nothing to publish, and what to set."""
    adapters, reasons = parameters.adapter_names(), []
    if "tf" in adapters and not parameters.depth:
        reasons.append("adapters: tf publishes people in space only: set depth to true, too")
    if "hri_msgs" in adapters and not parameters.tracker:
        reasons.append("adapters: hri_msgs publishes people with ids only: set tracker to true")
    return reasons
