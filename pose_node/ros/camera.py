"""The camera process: publish a video, a webcam, an image or a folder as a ROS camera.

A reader thread decodes ahead, a publisher thread sends each frame at its time, the main thread
serves the node and listens for signals. Relative, remappable topics: `image_raw`,
`image_raw/compressed` and `camera_info`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import rclpy
from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from pose_node.errors import PoseNodeError
from pose_node.imaging import encode_jpeg
from pose_node.playback import FrameReader, Schedule
from pose_node.ros import cdr
from pose_node.ros.camera_info import Calibration, read_calibration, to_camera_info
from pose_node.ros.camera_options import DEFAULT_RATE, CameraOptions, parse_options
from pose_node.ros.signals import note_signals
from pose_node.ros.transport import prepare_process
from pose_node.source_names import shown_name
from pose_node.sources import SourceFrame, open_source

_DISCOVERY_S = 0.5


@dataclass(frozen=True)
class PreparedFrame:
    """A frame that is ready to be sent. `stamp_ns` is None where capture is when it is due."""

    frame: SourceFrame
    jpeg: bytes | None
    stamp_ns: int | None


@dataclass(frozen=True)
class Summary:
    """Frames published, in how many seconds, and due times that passed without a frame."""

    published: int
    elapsed_s: float
    missed: int


class CameraPublisher:
    """The topics of one camera on a node."""

    def __init__(self, node: Node, options: CameraOptions, calibration: Calibration | None) -> None:
        self._node = node
        self._options = options
        self._calibration = calibration
        self._warned = False
        # Reliable matches subscribers of both kinds; depth 1 because only the newest image counts.
        quality = QoSProfile(depth=1, reliability=ReliabilityPolicy[options.reliability.upper()])
        self._raw: Publisher[Image] | None = None
        self._compressed: Publisher[CompressedImage] | None = None
        if options.transport in ("raw", "both"):
            self._raw = node.create_publisher(Image, "image_raw", quality)
        if options.transport in ("compressed", "both"):
            self._compressed = node.create_publisher(
                CompressedImage, "image_raw/compressed", quality
            )
        # Small and never late, so that who counts or joins them misses none.
        every = QoSProfile(depth=10, reliability=quality.reliability)
        self._info = node.create_publisher(CameraInfo, "camera_info", every)

    def has_subscribers(self) -> bool:
        """Whether someone listens to everything that `wait_for` of the options names."""
        heard = {
            "image": _has_subscriber(self._raw) or _has_subscriber(self._compressed),
            "camera_info": _has_subscriber(self._info),
        }
        return all(heard[name] for name in self._options.wait_for)

    def prepare(self, frame: SourceFrame, *, live: bool) -> PreparedFrame:
        """Do the work that can be done before a frame is due; needs no node, so any thread will do.

        Raises:
            ImageError: the frame cannot be encoded as JPEG.
        """
        stamp_ns = self._node.get_clock().now().nanoseconds if live else None
        jpeg = self._encode(frame) if _has_subscriber(self._compressed) else None
        return PreparedFrame(frame, jpeg, stamp_ns)

    def publish(self, prepared: PreparedFrame) -> None:
        """Send a frame to whoever listens; its stamp is now, or when a live source captured it."""
        stamp_ns = prepared.stamp_ns
        if stamp_ns is None:
            stamp_ns = self._node.get_clock().now().nanoseconds
        fields = cdr.HeaderFields(*divmod(stamp_ns, 1_000_000_000), self._options.frame_id)
        frame = prepared.frame
        if self._raw is not None and _has_subscriber(self._raw):
            self._raw.publish(cdr.write_image(fields, frame.image))
        if self._compressed is not None and _has_subscriber(self._compressed):
            # A subscriber may have come after the frame was prepared.
            jpeg = prepared.jpeg or self._encode(frame)
            self._compressed.publish(cdr.write_compressed_image(fields, cdr.JPEG_FORMAT, jpeg))
        if _has_subscriber(self._info):
            stamp = Time(sec=fields.sec, nanosec=fields.nanosec)
            header = Header(stamp=stamp, frame_id=fields.frame_id)
            self._info.publish(to_camera_info(self._calibration_of(frame), header))

    def finish(self) -> None:
        """Give reliable subscribers a second to acknowledge the last frame."""
        for publisher in (self._raw, self._compressed, self._info):
            if publisher is not None:
                publisher.wait_for_all_acked(Duration(seconds=1))

    def _encode(self, frame: SourceFrame) -> bytes:
        return encode_jpeg(frame.image, self._options.jpeg_quality)

    def _calibration_of(self, frame: SourceFrame) -> Calibration:
        size = (frame.image.shape[1], frame.image.shape[0])
        if self._calibration is None:
            return Calibration.unknown(*size)
        calibration, warning = self._calibration.for_image(size, frame.source_size)
        if warning and not self._warned:
            self._warned = True
            self._node.get_logger().warning(f"{frame.name}: {warning}")
        return calibration


def run(
    publisher: CameraPublisher,
    reader: FrameReader[PreparedFrame],
    schedule: Schedule | None,
    options: CameraOptions,
    stop: threading.Event,
) -> Summary:
    """Publish until the source ends, `count` is reached or `stop` is set.

    Args:
        schedule: when frames are due; None for a live source, whose frames go out as they come.

    Raises:
        PoseNodeError: the source failed.
    """
    if options.wait_for and not _wait_for_subscribers(publisher, stop):
        return Summary(0, 0.0, 0)
    published = 0
    start = time.monotonic()
    for prepared in reader:
        if schedule is not None and _wait_until_due(schedule, stop):
            break
        publisher.publish(prepared)
        published += 1
        if published == options.count:
            break
    if schedule is not None and published:  # The last frame lasts as long as the others.
        _wait_until_due(schedule, stop)
    elapsed = time.monotonic() - start
    if not stop.is_set():
        publisher.finish()
    return Summary(published, elapsed, 0 if schedule is None else schedule.missed)


def _wait_for_subscribers(publisher: CameraPublisher, stop: threading.Event) -> bool:
    while not publisher.has_subscribers():
        if stop.wait(0.02):
            return False
    # That we know a subscriber does not mean that it knows us; there is nothing to ask for that.
    return not stop.wait(_DISCOVERY_S)


def _wait_until_due(schedule: Schedule, stop: threading.Event) -> bool:
    """Whether the wait was cut short."""
    due = schedule.next_due(time.monotonic())
    return stop.wait(max(0.0, due - time.monotonic()))


def main(args: Sequence[str] | None = None) -> int:
    """Run the camera process.

    Args:
        args: the command line without the program's name; by default that of this process.

    Returns:
        0 at the end of the source and after Ctrl-C or SIGTERM, 1 if the source or the calibration
        cannot be read.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    options = parse_options(remove_ros_args(arguments))
    warnings = prepare_process()
    # The machine is shared with the network: decoding is cheap and must stay small.
    cv2.setNumThreads(1)
    signalled = note_signals()
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("camera")
    for warning in warnings:
        node.get_logger().warning(warning)
    try:
        _serve(node, options, lambda: bool(signalled))
    except PoseNodeError as error:
        node.get_logger().fatal(str(error))
        return 1
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _serve(node: Node, options: CameraOptions, signalled: Callable[[], bool]) -> None:
    """Publish in a second thread and spin the node in this one, until the end or a signal."""
    logger = node.get_logger()
    calibration = None if options.camera_info is None else read_calibration(options.camera_info)

    def warn(text: str) -> None:
        logger.warning(text, throttle_duration_sec=5.0)

    source = open_source(
        options.source,
        loop=options.loop,
        size=options.size,
        fps=options.rate,
        on_warning=warn,
    )
    live = source.kind == "live"
    schedule = None if live else Schedule(options.rate or source.fps or DEFAULT_RATE)
    publisher = CameraPublisher(node, options, calibration)
    reader = FrameReader(source, lambda frame: publisher.prepare(frame, live=live))
    stop = threading.Event()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    with ThreadPoolExecutor(1, "camera publisher") as threads:
        running = threads.submit(run, publisher, reader, schedule, options, stop)
        try:
            while not running.done() and not signalled():
                executor.spin_once(timeout_sec=0.05)
        finally:
            stop.set()
            reader.close()
            executor.shutdown()
        summary = running.result()
    logger.info(
        f"published {summary.published} frames of {shown_name(source.name)} in "
        f"{summary.elapsed_s:.1f} s, {summary.missed} due times missed"
    )


def _has_subscriber(publisher: Publisher[Any] | None) -> bool:
    return publisher is not None and publisher.get_subscription_count() > 0
