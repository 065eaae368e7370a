"""Reads the images of bags: rosbag2 (sqlite3, MCAP) and ROS 1, with the rosbags library, no ROS."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pose_node.errors import PoseNodeError, SourceError
from pose_node.imaging import CompressedImage, RawImage, to_array
from pose_node.prediction.frames import Failure, Kind, RecordedFrame, Selection
from pose_node.source_names import shown_name

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"

BAG_SUFFIXES = (".mcap", ".db3", ".bag")
_DEPTH_ENCODINGS = {"16UC1", "32FC1"}

# Where bags are read, every exception is one more way in which a file can be damaged: rosbags
# passes on what its libraries raise (two of SQLite, Zstandard, LZ4, struct, its own), which have no
# common parent and are not the same from version to version.


def is_bag(path: Path) -> bool:
    """Whether a path looks like a bag: a folder with metadata.yaml, or a file of a bag's suffix."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file()
    return path.is_file() and path.suffix.lower() in BAG_SUFFIXES


def require_rosbags() -> None:
    """See that the rosbags library is there.

    Raises:
        SourceError: it is not installed.
    """
    try:
        import rosbags.highlevel  # noqa: F401
    except ImportError as error:
        raise SourceError(
            f"bags need the rosbags library ({error}); install it: "
            "pip install 'pose-node[recordings]'"
        ) from error


class BagRecording:
    """The images of a bag in the order in which they were recorded.

    Args:
        path: the bag.
        selection: counted for each topic by itself, times since the start of the bag.
        topics: the topics to read; by default all of colour images, where a camera has a raw and a
            compressed one the raw one.

    Attributes:
        topics: those that are read.

    Raises:
        SourceError: the bag cannot be read, or has no such topics.
    """

    kind: Kind = "bag"
    fps = None  # each topic has its own, and need not last as long as the bag

    def __init__(self, path: Path, selection: Selection, *, topics: Sequence[str] = ()) -> None:
        require_rosbags()
        self.name = str(path)
        self._shown_name = shown_name(self.name)
        self.path = path
        self._selection = selection
        try:
            with _open(path) as reader:
                connections = self._choose(reader, topics)
                self.start_ns = reader.start_time
        except PoseNodeError:
            raise
        except Exception as error:
            raise SourceError(f"bag {path} cannot be read: {reason(error)}") from error
        self._ids = {connection.id for connection in connections}
        self.topics = tuple(sorted({connection.topic for connection in connections}))
        counts: dict[str, int] = defaultdict(int)
        for connection in connections:
            counts[connection.topic] += connection.msgcount
        wanted = [selection.count(count) for count in counts.values()]
        self.frame_count = None if None in wanted else sum(filter(None, wanted))

    def __iter__(self) -> Iterator[RecordedFrame | Failure]:
        indices: dict[str, int] = defaultdict(int)
        open_topics = set(self.topics)
        try:
            # Opened here: SQLite wants to be used by the thread that opened it.
            with _open(self.path) as reader:
                connections = [c for c in reader.connections if c.id in self._ids]
                for connection, logged_ns, content in reader.messages(connections):
                    topic = connection.topic
                    index = indices[topic]
                    indices[topic] += 1
                    chosen = self._selection.choose(index, logged_ns - self.start_ns)
                    if chosen is None:
                        open_topics.discard(topic)
                        if not open_topics:
                            return
                    elif chosen:
                        yield self._frame(reader, connection, index, logged_ns, content)
        except Exception as error:  # noqa: BLE001 - see above
            found = sum(indices.values())
            yield Failure(self._shown_name, f"ends after {found} images: {reason(error)}")

    def close(self) -> None:
        """Nothing is open outside of iterating."""

    def _frame(
        self, reader: Any, connection: Any, index: int, logged_ns: int, content: bytes
    ) -> RecordedFrame | Failure:
        topic = connection.topic
        try:
            message = reader.deserialize(content, connection.msgtype)
            image, order = to_array(_as_image(message, connection.msgtype))
        except Exception as error:  # noqa: BLE001 - see above
            return Failure(self._shown_name, reason(error), topic, index)
        stamp = message.header.stamp
        return RecordedFrame(
            self._shown_name,
            topic,
            index,
            int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec),
            image,
            order,
            str(message.header.frame_id),
            logged_ns,
        )

    def _choose(self, reader: Any, topics: Sequence[str]) -> list[Any]:
        """The connections to read."""
        images = [c for c in reader.connections if c.msgtype in (RAW, COMPRESSED)]
        known = sorted({connection.topic for connection in images})
        missing = [topic for topic in topics if topic not in known]
        if missing or not images:
            raise SourceError(
                f"bag {self.path} has no image topic {', '.join(missing)}".rstrip()
                + f"; found: {', '.join(known) or 'none'}"
            )
        if topics:
            return [connection for connection in images if connection.topic in topics]
        raw = {connection.topic for connection in images if connection.msgtype == RAW}
        colour = [
            connection
            for connection in images
            if not (connection.msgtype == COMPRESSED and _base(connection.topic) in raw)
            and connection.msgcount > 0
            and not _is_depth(reader, connection)
        ]
        if not colour:
            raise SourceError(
                f"bag {self.path} has no colour images in {', '.join(known)}; name a topic to read "
                "it all the same"
            )
        return colour


def _open(path: Path) -> Any:
    """A reader, as a context manager."""
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    return AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))


def _is_depth(reader: Any, connection: Any) -> bool:
    """Whether the first image of a topic holds depth."""
    for _, _, content in reader.messages([connection]):
        try:
            message = reader.deserialize(content, connection.msgtype)
        except Exception:  # noqa: BLE001 - see above
            return False  # its frames will say so
        if connection.msgtype == RAW:
            return str(message.encoding) in _DEPTH_ENCODINGS
        return "compressedDepth" in message.format or str(message.format).startswith("16UC1")
    return False


def _base(topic: str) -> str:
    return topic.removesuffix("/compressed")


def _as_image(message: Any, msgtype: str) -> RawImage | CompressedImage:
    if msgtype == COMPRESSED:
        return CompressedImage(message.format, message.data)
    return RawImage(
        message.encoding,
        message.width,
        message.height,
        message.step,
        message.data,
        bool(message.is_bigendian),
    )


def reason(error: Exception) -> str:
    """Why a bag or a message cannot be read."""
    text = " ".join(str(error).split())
    if isinstance(error, (PoseNodeError, OSError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
