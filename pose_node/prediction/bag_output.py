"""Writes results as rosbag2: a PersonPoseArray for each image, with the image's own header.

The definitions are embedded, so that every reader of bags understands them without this package.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pose_node.errors import OutputError
from pose_node.output_files import unfinished
from pose_node.poses import Poses, Skeleton
from pose_node.prediction.bags import BagRecording, require_rosbags
from pose_node.prediction.frames import RecordedFrame, Recording
from pose_node.prediction.message_definitions import DEFINITIONS
from pose_node.prediction.pictures import DEFAULT_FPS

STORAGES = ("mcap", "sqlite3")


class BagOutput:
    """A bag for each recording: topics ``poses`` and ``skeleton_info`` beside that of each image.

    Args:
        folder: where the bags go, each in a folder named as its source.
        skeleton: the model's.
        storage: one of `STORAGES`; by default that of the bag that is read, mcap for other sources.
        copy: also copy all messages of the bag that is read.

    Raises:
        SourceError: the rosbags library is not installed.
    """

    def __init__(
        self, folder: Path, skeleton: Skeleton, *, storage: str | None = None, copy: bool = False
    ) -> None:
        require_rosbags()
        self._folder = folder
        self._skeleton = skeleton
        self._storage = storage
        self._copy = copy
        self._typestore = _typestore()
        self._taken: set[Path] = set()
        self._written: list[Path] = []
        self._bag: _Bag | None = None

    def begin(self, recording: Recording) -> None:
        """Start a bag."""
        path = self._free_path(recording.name)
        source = recording if isinstance(recording, BagRecording) else None
        storage = self._storage or (_storage_of(source) if source else "mcap")
        self._bag = _Bag(path, self._typestore, self._skeleton, storage)
        if self._copy:
            if source is None:
                raise OutputError(f"only bags can be copied, {recording.name} is none")
            self._bag.copy_from(source.path)

    def write(self, frame: RecordedFrame, poses: Poses) -> None:
        """Add a message."""
        assert self._bag is not None, "begin() comes first"
        self._bag.write(frame, poses)

    def end(self, *, complete: bool) -> None:
        """Finish the bag of this recording."""
        if self._bag is not None:
            self._written.append(self._bag.finish(copy_rest=complete))
            self._bag = None

    def close(self) -> list[Path]:
        """What was written."""
        return self._written

    def abort(self) -> None:
        """Delete the unfinished bag."""
        if self._bag is not None:
            self._bag.abort()

    def _free_path(self, source: str) -> Path:
        stem = Path(source).stem or "bag"
        path, number = self._folder / stem, 1
        while path in self._taken:
            number += 1
            path = self._folder / f"{stem}_{number}"
        self._taken.add(path)
        return path


class _Bag:
    """One bag while it is written, in a hidden folder that has its name only at the end."""

    def __init__(self, path: Path, typestore: Any, skeleton: Skeleton, storage: str) -> None:
        from rosbags.rosbag2 import StoragePlugin, Writer

        self._path = path
        self._hidden = unfinished(path)
        self._typestore = typestore
        self._skeleton = skeleton
        self._poses: dict[str, Any] = {}
        self._copies: Iterator[tuple[Any, int, bytes]] | None = None
        self._reader: Any = None
        self._waiting: tuple[Any, int, bytes] | None = None
        try:
            shutil.rmtree(self._hidden, ignore_errors=True)  # of a run that was killed
            self._hidden.mkdir(parents=True)
            self._writer = Writer(
                self._hidden / path.name,  # the name goes into the bag's files
                version=Writer.VERSION_LATEST,
                storage_plugin=StoragePlugin[storage.upper()],
            )
            self._writer.open()
        except OSError as error:
            raise self._failed(error) from error

    def copy_from(self, source: Path) -> None:
        """From now on, copy the messages of another bag up to each image that is written."""
        from rosbags.highlevel import AnyReader

        if source.suffix == ".bag":
            raise OutputError(f"{source} is a bag of ROS 1, whose messages cannot be copied as is")
        self._reader = AnyReader([source], default_typestore=self._typestore)
        self._reader.open()
        copies = {
            connection.id: self._writer.add_connection(
                connection.topic,
                connection.msgtype,
                **_definition(connection, self._reader.typestore),
                serialization_format=connection.ext.serialization_format,
                offered_qos_profiles=connection.ext.offered_qos_profiles,
            )
            for connection in self._reader.connections
        }
        self._copies = (
            (copies[connection.id], logged_ns, content)
            for connection, logged_ns, content in self._reader.messages()
        )

    def write(self, frame: RecordedFrame, poses: Poses) -> None:
        stamp_ns = frame.stamp_ns
        if stamp_ns is None:  # images have no time
            stamp_ns = round(1e9 * frame.index / DEFAULT_FPS)
        logged_ns = frame.logged_ns or stamp_ns
        header = self._message(
            "std_msgs/msg/Header",
            stamp=self._message(
                "builtin_interfaces/msg/Time",
                sec=stamp_ns // 1_000_000_000,
                nanosec=stamp_ns % 1_000_000_000,
            ),
            frame_id=frame.frame_id,
        )
        try:
            self._copy_until(logged_ns)
            if frame.topic not in self._poses:
                self._open_topics(frame.topic, header, logged_ns)
            message = self._pose_array(header, frame, poses)
            self._put(self._poses[frame.topic], logged_ns, message)
        except OSError as error:
            raise self._failed(error) from error

    def finish(self, *, copy_rest: bool) -> Path:
        try:
            if copy_rest:
                self._copy_until(None)
            self._close_reader()
            self._writer.close()
            shutil.rmtree(self._path, ignore_errors=True)
            os.replace(self._hidden / self._path.name, self._path)
            self._hidden.rmdir()
        except OSError as error:
            raise self._failed(error) from error
        return self._path

    def abort(self) -> None:
        self._close_reader()
        self._writer.abort()
        shutil.rmtree(self._hidden, ignore_errors=True)

    def _open_topics(self, image_topic: str, header: Any, logged_ns: int) -> None:
        """The topics beside those of an image, and the skeleton as their first message."""
        from rosbags.interfaces import QosDurability

        namespace = image_topic.removesuffix("/compressed").rpartition("/")[0]
        taken = {connection.topic for connection in self._writer.connections}
        if f"{namespace}/poses" in taken:  # another camera's, or of the bag that is copied
            namespace = image_topic.removesuffix("/compressed")
        info = self._writer.add_connection(
            f"{namespace}/skeleton_info",
            "pose_node/msg/SkeletonInfo",
            typestore=self._typestore,
            offered_qos_profiles=[_qos(QosDurability.TRANSIENT_LOCAL, depth=1)],
        )
        self._poses[image_topic] = self._writer.add_connection(
            f"{namespace}/poses",
            "pose_node/msg/PersonPoseArray",
            typestore=self._typestore,
            offered_qos_profiles=[_qos(QosDurability.VOLATILE, depth=5)],
        )
        message = self._message(
            "pose_node/msg/SkeletonInfo",
            header=self._message("std_msgs/msg/Header", stamp=header.stamp, frame_id=""),
            name=self._skeleton.name,
            keypoint_names=list(self._skeleton.keypoint_names),
            edges=np.array(self._skeleton.edges, np.uint16).reshape(-1),
            flip=np.array(self._skeleton.flip, np.uint16),
        )
        self._put(info, logged_ns, message)

    def _pose_array(self, header: Any, frame: RecordedFrame, poses: Poses) -> Any:
        width, height = frame.size
        people = [
            self._message(
                "pose_node/msg/PersonPose",
                track_id=track_id,
                score=score,
                bbox=self._message(
                    "pose_node/msg/BoundingBox", x_min=left, y_min=top, x_max=right, y_max=bottom
                ),
                keypoints=[
                    self._message("pose_node/msg/Keypoint", x=x, y=y, score=certainty)
                    for x, y, certainty in keypoints
                ],
            )
            for track_id, score, (left, top, right, bottom), keypoints in zip(
                poses.ids.tolist(),
                poses.scores.tolist(),
                poses.boxes_xyxy.tolist(),
                poses.keypoints.tolist(),
                strict=True,
            )
        ]
        return self._message(
            "pose_node/msg/PersonPoseArray",
            header=header,
            image_width=width,
            image_height=height,
            skeleton=self._skeleton.name,
            people=people,
        )

    def _message(self, msgtype: str, /, **fields: Any) -> Any:
        return self._typestore.types[msgtype](**fields)

    def _put(self, connection: Any, logged_ns: int, message: Any) -> None:
        content = self._typestore.serialize_cdr(message, connection.msgtype)
        self._writer.write(connection, logged_ns, content)

    def _copy_until(self, logged_ns: int | None) -> None:
        """Copy what was recorded up to and at a time; None for all that is left."""
        if self._copies is None:
            return
        while True:
            self._waiting = self._waiting or next(self._copies, None)
            if self._waiting is None or (logged_ns is not None and self._waiting[1] > logged_ns):
                return
            self._writer.write(*self._waiting)
            self._waiting = None

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write bag {self._path}: {error.strerror or error}")


def _typestore() -> Any:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    typestore = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for name, text in DEFINITIONS.items():
        types.update(get_types_from_msg(text, name))
    typestore.register(types)
    return typestore


def _definition(connection: Any, typestore: Any) -> dict[str, Any]:
    """How the writer is to describe a type: as the source does or, if it is an old bag, itself."""
    if connection.msgdef.data and connection.digest:
        return {"msgdef": connection.msgdef.data, "rihs01": connection.digest}
    return {"typestore": typestore}


def _storage_of(recording: BagRecording) -> str:
    """The storage of a bag, by its files."""
    path = recording.path
    names = [path.name, *(entry.name for entry in path.iterdir())] if path.is_dir() else [path.name]
    return "sqlite3" if any(".db3" in name for name in names) else "mcap"


def _qos(durability: Any, *, depth: int) -> Any:
    from rosbags.interfaces import Qos, QosHistory, QosLiveliness, QosReliability, QosTime

    endless = QosTime(9223372036, 854775807)  # as rmw writes infinity
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE,
        durability,
        deadline=endless,
        lifespan=endless,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=endless,
        avoid_ros_namespace_conventions=False,
    )
