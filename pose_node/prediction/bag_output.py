"""Writes results as rosbag2: a PersonPoseArray for each image, with the image's own header.

The definitions are embedded, so that every reader of bags understands them without this package.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any

from pose_node.errors import OutputError
from pose_node.output_files import unfinished
from pose_node.poses import Poses, Skeleton
from pose_node.prediction.bag_messages import Messages, quality_of_service
from pose_node.prediction.bags import BagRecording, reason, require_rosbags
from pose_node.prediction.frames import Failure, RecordedFrame, Recording
from pose_node.prediction.names import FreeNames, plain_name
from pose_node.prediction.pictures import DEFAULT_FPS
from pose_node.source_names import shown_name

STORAGES = ("mcap", "sqlite3")


class BagOutput:
    """A bag for each recording: topics ``poses`` and ``skeleton_info`` beside that of each image.

    Args:
        folder: where the bags go, each in a folder named as its source.
        skeleton: the model's.
        storage: one of `STORAGES`; by default that of the bag that is read, mcap for other sources.
        copy: also copy all messages of the bag that is read.

    Attributes:
        failures: what could not be copied.

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
        self._messages = Messages()
        self.failures: list[Failure] = []
        self._names = FreeNames()
        self._written: list[Path] = []
        self._bag: _Bag | None = None

    def begin(self, recording: Recording) -> None:
        """Start a bag."""
        path = self._folder / self._names.take(plain_name(recording.name))
        source = recording if isinstance(recording, BagRecording) else None
        storage = self._storage or (_storage_of(source) if source else "mcap")
        self._bag = _Bag(path, self._messages, self._skeleton, storage)
        if self._copy:
            if source is None:
                raise OutputError(f"only bags can be copied, {recording.name} is none")
            self._bag.copy_from(source.path, self.failures.append)

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


class _Bag:
    """One bag while it is written, in a hidden folder that has its name only at the end."""

    def __init__(self, path: Path, messages: Messages, skeleton: Skeleton, storage: str) -> None:
        from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

        self._errors = (OSError, sqlite3.Error, WriterError)
        self._path = path
        self._hidden = unfinished(path)
        self._messages = messages
        self._skeleton = skeleton
        self._poses: dict[str, Any] = {}
        self._copies: Iterator[tuple[Any, int, bytes]] | None = None
        self._not_copied: Callable[[str, str], None] = lambda topic, reason: None
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
        except self._errors as error:
            shutil.rmtree(self._hidden, ignore_errors=True)
            raise self._failed(error) from error

    def copy_from(self, source: Path, report: Callable[[Failure], None]) -> None:
        """From now on, copy the messages of another bag up to each image that is written."""
        from rosbags.highlevel import AnyReader

        if source.suffix == ".bag":
            raise OutputError(f"{source} is a bag of ROS 1, whose messages cannot be copied as is")
        self._not_copied = lambda topic, text: report(
            Failure(shown_name(str(source)), f"not all of it could be copied: {text}", topic)
        )
        try:
            reader = AnyReader([source], default_typestore=self._messages.typestore)
            reader.open()
        except Exception as error:  # noqa: BLE001 - as where bags are read
            self._not_copied("", reason(error))
            return
        self._reader = reader
        copies = {
            connection.id: copied
            for connection in self._reader.connections
            if (copied := self._same_topic(connection)) is not None
        }
        self._copies = (
            (copies[connection.id], logged_ns, content)
            for connection, logged_ns, content in self._reader.messages()
            if connection.id in copies
        )

    def _same_topic(self, connection: Any) -> Any | None:
        """A topic of the source, here; None if nothing says what its messages look like."""
        from rosbags.typesys import TypesysError

        for known in self._writer.connections:  # of two publishers, perhaps
            if (known.topic, known.msgtype) == (connection.topic, connection.msgtype):
                return known
        try:
            return self._writer.add_connection(
                connection.topic,
                connection.msgtype,
                **_definition(connection, self._reader.typestore),
                serialization_format=connection.ext.serialization_format,
                offered_qos_profiles=connection.ext.offered_qos_profiles,
            )
        except (KeyError, TypesysError):  # old bags do not carry definitions
            text = f"the definition of {connection.msgtype} is not in the bag"
            self._not_copied(connection.topic, text)
            return None

    def write(self, frame: RecordedFrame, poses: Poses) -> None:
        stamp_ns = frame.stamp_ns
        if stamp_ns is None:  # images have no time
            stamp_ns = round(1e9 * frame.index / DEFAULT_FPS)
        logged_ns = frame.logged_ns or stamp_ns
        header = self._messages.header(stamp_ns, frame.frame_id)
        try:
            self._copy_until(logged_ns)
            if frame.topic not in self._poses:
                self._open_topics(frame.topic, header, logged_ns)
            message = self._messages.pose_array(header, frame.size, poses, self._skeleton.name)
            self._put(self._poses[frame.topic], logged_ns, message)
        except self._errors as error:
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
        except self._errors as error:
            raise self._failed(error) from error
        return self._path

    def abort(self) -> None:
        self._close_reader()
        with contextlib.suppress(*self._errors):
            self._writer.abort()  # it writes what is left, to a full disk perhaps
        shutil.rmtree(self._hidden, ignore_errors=True)

    def _open_topics(self, image_topic: str, header: Any, logged_ns: int) -> None:
        """The topics beside those of an image, and the skeleton as their first message."""
        from rosbags.interfaces import QosDurability

        namespace = self._free_namespace(image_topic.removesuffix("/compressed"))
        info = self._writer.add_connection(
            f"{namespace}/skeleton_info",
            "pose_node/msg/SkeletonInfo",
            typestore=self._messages.typestore,
            offered_qos_profiles=[quality_of_service(QosDurability.TRANSIENT_LOCAL, depth=1)],
        )
        self._poses[image_topic] = self._writer.add_connection(
            f"{namespace}/poses",
            "pose_node/msg/PersonPoseArray",
            typestore=self._messages.typestore,
            offered_qos_profiles=[quality_of_service(QosDurability.VOLATILE, depth=5)],
        )
        message = self._messages.skeleton_info(header, self._skeleton)
        self._put(info, logged_ns, message)

    def _free_namespace(self, camera: str) -> str:
        """The first that has no such topics: of another camera, or of the bag that is copied."""
        taken = {connection.topic for connection in self._writer.connections}
        numbered = (f"{camera}_{number}" for number in count(2))
        for namespace in chain([camera.rpartition("/")[0], camera], numbered):
            if not {f"{namespace}/poses", f"{namespace}/skeleton_info"} & taken:
                return namespace
        raise AssertionError("there are numbers without end")

    def _put(self, connection: Any, logged_ns: int, message: Any) -> None:
        content = self._messages.typestore.serialize_cdr(message, connection.msgtype)
        self._writer.write(connection, logged_ns, content)

    def _copy_until(self, logged_ns: int | None) -> None:
        """Copy what was recorded up to and at a time; None for all that is left."""
        while self._copies is not None:
            try:
                self._waiting = self._waiting or next(self._copies, None)
            except Exception as error:  # noqa: BLE001 - as where bags are read
                self._copies = None
                self._not_copied("", reason(error))
                return
            if self._waiting is None or (logged_ns is not None and self._waiting[1] > logged_ns):
                return
            self._writer.write(*self._waiting)
            self._waiting = None

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _failed(self, error: Exception) -> OutputError:
        return OutputError(f"cannot write bag {self._path}: {reason(error)}")


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
