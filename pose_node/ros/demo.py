"""The demo: a camera process, the node, and this process, which prints the people.

Everything runs as it would on a robot: three processes, real DDS, real images. It ends with the
video and leaves an annotated video, an annotated picture and a summary.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, CompressedImage

from pose_node.errors import PoseNodeError, SourceError
from pose_node.models.fetch import cached_model_path, resolve_model
from pose_node.msg import PersonPoseArray, SkeletonInfo
from pose_node.poses import Poses
from pose_node.ros.messages import to_poses, to_stamp_ns
from pose_node.ros.signals import interrupt
from pose_node.ros.transport import prepare_process

NAMESPACE = "/pose_node_demo"  # so that a robot's own camera on the same network is left alone
START_UP_SECONDS = 60.0
QUIET_SECONDS = 1.5  # after the camera's end, without another image: everything has arrived


@dataclass(frozen=True)
class Seen:
    """What arrived for one image.

    Attributes:
        stamp_ns: capture time of the image.
        received_ns: when its people arrived, by the same clock.
        scores: (N,) score of each person, best first.
    """

    stamp_ns: int
    received_ns: int
    scores: np.ndarray


class Pictures:
    """JPEGs by the time of their capture, in a file: a long video would fill the memory.

    Args:
        folder: where that file is, without a name, until the end of the `with` block.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._places: dict[int, tuple[int, int]] = {}

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, stamp_ns: int, jpeg: bytes) -> None:
        """Keep one."""
        self._places[stamp_ns] = (self._file.seek(0, os.SEEK_END), len(jpeg))
        self._file.write(jpeg)

    def stamps(self) -> list[int]:
        """Of all, in order."""
        return sorted(self._places)

    def __getitem__(self, stamp_ns: int) -> bytes:
        offset, size = self._places[stamp_ns]
        self._file.seek(offset)
        return self._file.read(size)


@dataclass
class Record:
    """Everything that arrived during the demo."""

    published: int = 0
    seen: list[Seen] = field(default_factory=list)


class Audience(Node):
    """Subscribes to what the node publishes, and keeps it.

    Args:
        pictures: where the annotated images go.
    """

    def __init__(self, pictures: Pictures) -> None:
        super().__init__("audience", namespace=NAMESPACE)
        self.record = Record()
        self._pictures = pictures
        self.node_is_ready = False
        self._printed = 0.0
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(SkeletonInfo, "skeleton_info", self._on_skeleton, latched)
        self.create_subscription(PersonPoseArray, "poses", self._on_poses, 10)
        self.create_subscription(
            CompressedImage, "image_annotated/compressed", self._on_picture, 10
        )
        # One small message for every image that the camera sends: counts them.
        self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, 100)

    def _on_skeleton(self, _: SkeletonInfo) -> None:
        self.node_is_ready = True

    def _on_camera_info(self, _: CameraInfo) -> None:
        self.record.published += 1

    def _on_picture(self, message: CompressedImage) -> None:
        self._pictures.put(to_stamp_ns(message.header), bytes(message.data))

    def _on_poses(self, message: PersonPoseArray) -> None:
        poses = to_poses(message)
        now = self.get_clock().now().nanoseconds
        self.record.seen.append(Seen(to_stamp_ns(message.header), now, poses.scores))
        if time.monotonic() - self._printed > 0.5:
            self._printed = time.monotonic()
            number = self.record.published
            print(f"  image {number:4}: {len(poses)} people  {describe(poses)}", flush=True)


def describe(poses: Poses) -> str:
    """Everybody in words: id once the tracker gave one, score, and the middle of the box."""
    return ", ".join(
        (f"#{track} " if track >= 0 else "")
        + f"{score:.2f} at ({(left + right) / 2:.0f}, {(top + bottom) / 2:.0f})"
        for track, score, (left, top, right, bottom) in zip(
            poses.ids, poses.scores, poses.boxes_xyxy, strict=True
        )
    )


def main(args: Sequence[str] | None = None) -> int:
    """Run the demo. Returns the exit code: 0 if people were received."""
    arguments = sys.argv[1:] if args is None else list(args)
    options = parse_options(remove_ros_args(["demo", *arguments])[1:])
    try:
        interrupt()
        options.output.mkdir(parents=True, exist_ok=True)
        source = options.source or str(_sample_video())
        resolve_model(options.model)  # before anything is started
        for warning in prepare_process():
            print(f"warning: {warning}", file=sys.stderr)
        start = arguments.index("--ros-args") if "--ros-args" in arguments else len(arguments)
        with Pictures(options.output) as pictures:
            record = _play(source, options, arguments[start:], pictures)
            return _report(record, pictures, options.output)
    except PoseNodeError as error:
        print(f"pose-node demo: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"pose-node demo: error: cannot write to {options.output}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pose-node demo: stopped", file=sys.stderr)
        return 130


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line, without its ROS part. Exits as argparse does."""
    parser = argparse.ArgumentParser(
        prog="pose-node demo",
        description="Play a video through camera process and node, print the people, and write "
        "annotated.mp4 and annotated.jpg. --log-level debug, info, warn or error: what is logged.",
    )
    parser.add_argument("source", nargs="?", help="video (default: the fetched sample video)")
    parser.add_argument("--model", default="yolo11n-pose", help="default: %(default)s")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--size", default="1280x720", help="of the images (default: %(default)s)")
    parser.add_argument("--count", type=int, help="end after so many images")
    parser.add_argument(
        "--output", type=Path, default=Path("demo"), help="folder to write to (default: demo)"
    )
    return parser.parse_args(arguments)


def _sample_video() -> Path:
    path = cached_model_path("sample-video")
    if not path.is_file():
        raise SourceError("the sample video is not there yet: run `pose-node fetch sample-video`")
    return path


def _play(
    source: str, options: argparse.Namespace, ros: Sequence[str], pictures: Pictures
) -> Record:
    """Start node and camera, listen until the video has ended, stop both; `ros` is for all."""
    rclpy.init(args=["demo", *ros], signal_handler_options=SignalHandlerOptions.NO)
    audience = Audience(pictures)
    children: list[subprocess.Popen[bytes]] = []
    try:
        parameters = {"model": options.model, "device": options.device, "tracker": "true"}
        given = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
        print(f"starting the node with {options.model} ...", flush=True)
        node = _start("run", "--ros-args", "-r", f"__ns:={NAMESPACE}", *given, "--", *ros)
        children.append(node)
        _listen(audience, lambda: audience.node_is_ready, START_UP_SECONDS, node)

        print(f"playing {source} ...", flush=True)
        limit = ["--count", str(options.count)] if options.count else []
        camera = _start(
            *("camera", source, "--once", "--wait-for", "image"),
            *("--wait-for", "camera_info"),  # else nobody would count the first images
            *("--size", options.size, *limit, "--ros-args", "-r", f"__ns:={NAMESPACE}"),
            *("--", *ros),
        )
        children.append(camera)
        _listen(audience, lambda: camera.poll() is not None, None, node)
        if camera.returncode:
            raise SourceError(f"the camera process ended with code {camera.returncode}")
        _listen_until_quiet(audience, node)
        return audience.record
    finally:
        for child in children:
            _stop(child)
        audience.destroy_node()
        rclpy.try_shutdown()


def _start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pose_node.ros.entry", name, *arguments]
    return subprocess.Popen(command)  # noqa: S603 - this package's own programs, without a shell


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, as Ctrl-C does; end it if it does not listen."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _listen(
    audience: Audience,
    done: Callable[[], bool],
    limit_seconds: float | None,
    node: subprocess.Popen[bytes],
) -> None:
    """Receive until `done`; an error if the node ends or the time is over before."""
    started = time.monotonic()
    while not done():
        rclpy.spin_once(audience, timeout_sec=0.1)
        if node.poll() is not None:
            raise PoseNodeError(
                f"the node ended with code {node.returncode}: see its message above"
            )
        if limit_seconds is not None and time.monotonic() - started > limit_seconds:
            raise PoseNodeError(f"the node was not ready after {limit_seconds:.0f} s")


def _listen_until_quiet(audience: Audience, node: subprocess.Popen[bytes]) -> None:
    """Receive until nothing has come for a while."""
    count, since = -1, time.monotonic()

    def quiet() -> bool:
        nonlocal count, since
        if len(audience.record.seen) != count:
            count, since = len(audience.record.seen), time.monotonic()
        return time.monotonic() - since > QUIET_SECONDS

    _listen(audience, quiet, None, node)


def _report(record: Record, pictures: Pictures, folder: Path) -> int:
    """Write the pictures and print the summary."""
    if not record.seen:
        print("pose-node demo: error: the node published no poses", file=sys.stderr)
        return 1
    print("writing the pictures ...", flush=True)
    _write_pictures(record, pictures, folder)
    print(summarise(record))
    print(f"  pictures     {folder / 'annotated.mp4'}, {folder / 'annotated.jpg'}")
    return 0


def summarise(record: Record) -> str:
    """The summary in words; `record.seen` must not be empty."""
    stamps = np.array([seen.stamp_ns for seen in record.seen]) / 1e9
    ages = np.array([seen.received_ns - seen.stamp_ns for seen in record.seen]) / 1e6
    people = np.array([len(seen.scores) for seen in record.seen])
    duration = float(stamps[-1] - stamps[0])
    rate = f"{(len(stamps) - 1) / duration:.1f}" if duration > 0 else "-"
    median, high = np.percentile(ages, (50, 95))
    return "\n".join(
        (
            "summary",
            f"  images       {record.published} published, {len(record.seen)} processed; "
            "the newest one always goes first, older ones are left out",
            f"  people       {people.min()} to {people.max()} an image, mean {people.mean():.2f}",
            f"  rate         {rate} images a second",
            f"  latency      {median:.0f} ms p50, {high:.0f} ms p95, from capture to receipt",
        )
    )


def _write_pictures(record: Record, pictures: Pictures, folder: Path) -> None:
    """The video of all pictures, and the best single one: most people, then most certain."""
    stamps = pictures.stamps()
    scores = {seen.stamp_ns: seen.scores for seen in record.seen}
    if not stamps:
        raise PoseNodeError("the node published no annotated images")
    best = max(stamps, key=lambda stamp: (len(scores.get(stamp, ())), sum(scores.get(stamp, ()))))
    (folder / "annotated.jpg").write_bytes(pictures[best])

    first = _decode(pictures[stamps[0]])
    seconds = (stamps[-1] - stamps[0]) / 1e9
    rate = (len(stamps) - 1) / seconds if seconds > 0 else 1.0
    path = folder / "annotated.mp4"
    temporary = folder / "annotated.partial.mp4"
    writer = cv2.VideoWriter(
        str(temporary),
        cv2.VideoWriter.fourcc(*"mp4v"),
        rate,
        (first.shape[1], first.shape[0]),
    )
    if not writer.isOpened():
        raise PoseNodeError(f"OpenCV cannot write {path}: it has no encoder for mp4v")
    for stamp in stamps:
        writer.write(_decode(pictures[stamp]))
    writer.release()
    temporary.replace(path)


def _decode(jpeg: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise PoseNodeError("the node published an annotated image that is no JPEG")
    return image
