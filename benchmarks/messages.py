"""What messages as bytes and smaller decoding gain: milliseconds for each, old and new in turns.

    python benchmarks/messages.py VIDEO

Needs ROS 2. Both ends are in this process; publishing reaches two subscriptions. Decoding is that
of one frame of the video, scaled to each size and encoded with quality 90, with the letterboxing
that follows; simplejpeg is compared where it is installed.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
import rclpy
from pose_node.msg import PersonPoseArray
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from pose_node import Poses, imaging
from pose_node.inference.letterbox import Letterbox
from pose_node.ros import messages
from pose_node.ros.transport import prepare_process

ROUNDS = 100
WIDTHS = (1280, 1920, 3840)
HEADER = Header(frame_id="camera_optical_frame")


def main() -> int:
    """Measure and print."""
    for warning in prepare_process():
        print(warning)
    ok, frame = cv2.VideoCapture(sys.argv[1]).read()
    if not ok:
        print(f"{sys.argv[1]} cannot be read", file=sys.stderr)
        return 1
    rclpy.init()
    picture = cv2.resize(frame, (1280, 720))
    jpeg = imaging.encode_jpeg(picture)
    print(f"{'':36}{'object':>16}{'bytes':>16}   median / min, ms")
    _measure_topic(
        "Image 1280x720",
        Image,
        lambda: messages.to_image(HEADER, picture),
        lambda: messages.serialize_image(HEADER, picture),
        messages.from_image,
        messages.read_image,
    )
    _measure_topic(
        "CompressedImage 1280x720",
        CompressedImage,
        lambda: messages.to_compressed_image(HEADER, jpeg),
        lambda: messages.serialize_compressed_image(HEADER, jpeg),
        messages.from_compressed_image,
        messages.read_compressed_image,
    )
    for count in (0, 20, 50):
        _measure_people(count)
    rclpy.try_shutdown()
    for width in WIDTHS:
        _measure_decoding(frame, width)
    return 0


def _measure_people(count: int) -> None:
    dice = np.random.default_rng(0)
    people = Poses.from_arrays(
        dice.random((count, 4)), dice.random(count), dice.random((count, 17, 3))
    )
    fields: dict[str, Any] = {"width": 1280, "height": 720, "skeleton": "coco17"}
    _measure_topic(
        f"PersonPoseArray, {count} people",
        PersonPoseArray,
        lambda: messages.to_pose_array(HEADER, people, **fields),
        lambda: messages.serialize_pose_array(HEADER, people, **fields),
    )


def _measure_topic(
    name: str,
    kind: type,
    make: Callable[[], Any],
    serialize: Callable[[], bytes],
    read: Callable[[Any], Any] | None = None,
    read_bytes: Callable[[bytes], Any] | None = None,
) -> None:
    node = rclpy.create_node("benchmark")
    topic, quality = f"benchmark_{time.monotonic_ns()}", QoSProfile(depth=5)
    publisher: Publisher[Any] = node.create_publisher(kind, topic, quality)
    subscriptions = [
        node.create_subscription(kind, topic, lambda _: None, quality, raw=raw)
        for raw in (False, True)
    ]
    while publisher.get_subscription_count() < 2:
        time.sleep(0.02)
    sent: tuple[list[float], list[float]] = ([], [])
    received: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for raw, build in enumerate((make, serialize)):
            started = time.perf_counter()
            publisher.publish(build())
            sent[raw].append(time.perf_counter() - started)
            time.sleep(0.004)  # so that it has arrived
            for taken, (subscription, convert) in enumerate(
                zip(subscriptions, (read, read_bytes), strict=True)
            ):
                started = time.perf_counter()
                found = subscription.handle.take_message(kind, bool(taken))
                if found is not None and convert is not None:
                    convert(found[0])
                received[taken].append(time.perf_counter() - started)
    print(f"{'publish ' + name:36}{_text(sent[0]):>16}{_text(sent[1]):>16}")
    if read is not None:
        print(f"{'receive ' + name:36}{_text(received[0]):>16}{_text(received[1]):>16}")
    node.destroy_node()


def _measure_decoding(frame: np.ndarray, width: int) -> None:
    height = round(frame.shape[0] * width / frame.shape[1])
    content = imaging.encode_jpeg(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA))
    image = imaging.CompressedImage("jpeg", content)
    decoders: dict[str, Callable[[], np.ndarray]] = {
        f"OpenCV 1/{reduction}": lambda reduction=reduction: imaging.to_array(  # type: ignore[misc]
            image, reduction=reduction
        )[0]
        for reduction in (1, 2, 4)
    }
    if find_spec("simplejpeg") is not None:
        simplejpeg = import_module("simplejpeg")
        decoders["simplejpeg"] = lambda: simplejpeg.decode_jpeg(content, "BGR")
        decoders["simplejpeg 1/2"] = lambda: simplejpeg.decode_jpeg(
            content, "BGR", min_width=width // 2, min_height=height // 2
        )
    decoding: dict[str, list[float]] = {name: [] for name in decoders}
    scaling: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(ROUNDS // 2):
        for name, decode in decoders.items():
            started = time.perf_counter()
            array = decode()
            decoded = time.perf_counter()
            box = Letterbox.fit(*array.shape[:2], image_size=640, stride=32)
            box.draw(array, np.empty((box.height, box.width, 3), np.uint8))
            scaling[name].append(time.perf_counter() - decoded)
            decoding[name].append(decoded - started)
    print(f"JPEG {width}x{height}, {len(content) >> 10} kB: {'decode':>22}{'letterbox':>16}")
    for name in decoders:
        print(f"{name:36}{_text(decoding[name]):>16}{_text(scaling[name]):>16}")


def _text(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.2f} / {min(seconds) * 1e3:.2f}"


if __name__ == "__main__":
    sys.exit(main())
