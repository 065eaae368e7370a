"""Recordings, engines and bags for the tests of predictions."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose_node import captures
from pose_node.poses import Poses, Skeleton
from pose_node.prediction.frames import Failure, Kind, RecordedFrame

TRIO = Skeleton("trio", ("left_hand", "right_hand", "nose"), ((0, 2),), (1, 0, 2), (0.1,) * 3)


def make_recorded(index: int = 0, **changes: Any) -> RecordedFrame:
    """A frame of 32 x 24 whose grey value tells its index."""
    image = np.full((24, 32, 3), 10 * index % 256, np.uint8)
    values = {"source": "a.mp4", "topic": "", "stamp_ns": index * 100_000_000, "image": image}
    return RecordedFrame(**{**values, "index": index, **changes})


def people_in(image: np.ndarray) -> Poses:
    """One person whose numbers tell the image; nobody in a black one."""
    value = float(image[0, 0, 0])
    if value == 0:
        return Poses.empty(3)
    keypoints = [[(value + 0.25, 5, 0.9), (10, value, 0.8), (12, 12, 0.1)]]
    return Poses.from_arrays([[1, 2, 30, 20]], [value / 256], keypoints)


class FakeEngine:
    """Finds `people_in` images and remembers how many it saw at once."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: Sequence[np.ndarray], *, channel_order: object = "") -> list[Poses]:
        self.batches.append(len(images))
        return [people_in(image) for image in images]


class FakeRecording:
    """A recording of given items."""

    fps: float | None = 10.0

    def __init__(
        self,
        items: Sequence[RecordedFrame | Failure | Exception],
        *,
        name: str = "a.mp4",
        kind: Kind = "video",
    ) -> None:
        self.name = name
        self.kind: Kind = kind
        self.items = items
        self.frame_count: int | None = len(items)
        self.closed = False

    def __iter__(self) -> Iterator[RecordedFrame | Failure]:
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            yield item

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three images, 001.png to 003.png, and one that is none, 004.png."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (1, 2, 3):
        picture = np.full((24, 32, 3), 40 * number, np.uint8)
        cv2.imwrite(str(folder / f"{number:03}.png"), picture)
    (folder / "004.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten grey frames at 10 a second."""
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for index in range(10):
        writer.write(np.full((24, 32, 3), 20 * index, np.uint8))
    writer.release()
    return path


class FakeCapture:
    """Stands for OpenCV's of a webcam with five frames, each given when it is asked for.

    Attributes:
        opened: how many there were.
        allowed: released for each frame that may come.
        uptime_ms: what the driver's clock says at the first frame.
    """

    opened = 0
    allowed = threading.Semaphore()
    uptime_ms = 0.0

    def __init__(self, number: int) -> None:
        type(self).opened += 1
        self._index = -1

    def isOpened(self) -> bool:
        return True

    def set(self, key: int, value: float) -> None:
        pass

    def get(self, key: int) -> float:
        known = {cv2.CAP_PROP_FPS: 10.0, cv2.CAP_PROP_POS_MSEC: self.uptime_ms + 100 * self._index}
        return known.get(key, -1.0)

    def grab(self) -> bool:
        assert self.allowed.acquire(timeout=60)
        self._index += 1
        return self._index < 5

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((24, 32, 3), 40 * self._index, np.uint8)

    def release(self) -> None:
        pass


@pytest.fixture
def webcam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FakeCapture]:
    """/dev/video3, a `FakeCapture`."""
    devices = tmp_path / "devices"
    devices.mkdir()
    (devices / "video3").touch()
    monkeypatch.setattr(captures, "_DEVICES", devices)
    fake = type("Fake", (FakeCapture,), {"allowed": threading.Semaphore()})
    monkeypatch.setattr(cv2, "VideoCapture", fake)
    return fake


def write_bag(
    path: Path,
    *,
    storage: str = "mcap",
    count: int = 5,
    damage: Sequence[int] = (),
    compressed: bool = False,
) -> Path:
    """A bag of rgb8 images at 10 Hz on /cam/image, depth beside them, and camera_info-like text.

    Args:
        damage: these images have fewer bytes than they claim.
        compressed: also /cam/image/compressed with the same images as PNG.
    """
    rosbag2 = pytest.importorskip("rosbags.rosbag2", reason="rosbags missing: pip install rosbags")
    from rosbags.typesys import Stores, get_typestore

    typestore = get_typestore(Stores.ROS2_JAZZY)
    types = typestore.types
    plugin = rosbag2.StoragePlugin[storage.upper()]
    with rosbag2.Writer(path, version=9, storage_plugin=plugin) as writer:
        names = {"/cam/image": "Image", "/cam/depth/image": "Image"}
        if compressed:
            names["/cam/image/compressed"] = "CompressedImage"
        connections = {
            topic: writer.add_connection(topic, f"sensor_msgs/msg/{name}", typestore=typestore)
            for topic, name in names.items()
        }
        text = writer.add_connection("/note", "std_msgs/msg/String", typestore=typestore)
        for index in range(count):
            # The stamp of the image and the time of its arrival are different things.
            stamp_ns = 1_700_000_000_000_000_000 + index * 100_000_000 + 7
            logged_ns = stamp_ns + 5_000_000
            header = types["std_msgs/msg/Header"](
                stamp=types["builtin_interfaces/msg/Time"](
                    sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9
                ),
                frame_id="cam_optical",
            )
            picture = np.full((24, 32, 3), 40 * (index % 5), np.uint8)
            for topic, connection in connections.items():
                if connection.msgtype.endswith("CompressedImage"):
                    data = cv2.imencode(".png", picture)[1]
                    message = types[connection.msgtype](header=header, format="png", data=data)
                else:
                    encoding = "16UC1" if "depth" in topic else "rgb8"
                    size = 2 if "depth" in topic else 3
                    data = picture[..., :size].reshape(-1).copy()
                    if index in damage:
                        data = data[:10]
                    message = types[connection.msgtype](
                        *(header, 24, 32, encoding, 0, 32 * size, data)
                    )
                content = typestore.serialize_cdr(message, connection.msgtype)
                writer.write(connection, logged_ns, content)
            note = types["std_msgs/msg/String"](data=f"note {index}")
            writer.write(text, logged_ns + 1, typestore.serialize_cdr(note, text.msgtype))
    return path
