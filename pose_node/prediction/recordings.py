"""Opens what a person may name: images, folders, patterns, videos, webcams, streams and bags."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pose_node.errors import ImageError, SourceError
from pose_node.imaging import decode_file
from pose_node.prediction.bags import BAG_SUFFIXES, BagRecording, is_bag
from pose_node.prediction.frames import Failure, Kind, RecordedFrame, Recording, Selection
from pose_node.source_names import shown_name
from pose_node.sources import IMAGE_SUFFIXES, FrameSource, find_images, open_source

VIDEO_SUFFIXES = frozenset(
    {".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
)
"""Files that are taken from a folder or pattern as videos. A file that is named may have any."""


def expand_all(texts: Sequence[str]) -> list[str]:
    """The sources that words of the command line stand for, so that no frame comes twice.

    What lies in another source, or is one by another name, is left out: an image beside its folder,
    the files of a bag beside theirs.

    Raises:
        SourceError: two sources share some images, but neither has all of the other's. Which frames
            a range takes, and what they are numbered, would depend on who gets them.
    """
    sources = list(dict.fromkeys(source for text in texts for source in expand(text)))
    folders = {os.path.realpath(source) for source in sources if _is_bag_folder(source)}
    files = {source: _real_names(source) for source in sources}
    taken: dict[str, str] = {}
    for source in sorted(sources, key=lambda source: -len(files[source])):
        shared = [file for file in files[source] if file in taken or _is_in_bag(file, folders)]
        if not shared:
            taken |= dict.fromkeys(files[source], source)
        elif len(shared) < len(files[source]):
            raise SourceError(
                f"{shared[0]} belongs to {taken[shared[0]]} and to {source}: name each image once"
            )
    return [source for source in sources if any(taken.get(f) == source for f in files[source])]


def _is_in_bag(file: str, folders: set[str]) -> bool:
    return file.lower().endswith(BAG_SUFFIXES) and os.path.dirname(file) in folders


def _is_bag_folder(source: str) -> bool:
    return not is_live(source) and os.path.isdir(source) and is_bag(Path(source))


def _real_names(source: str) -> list[str]:
    """The one real name that each file of a source has; at least one."""
    if is_live(source):
        return [source]
    try:
        path = Path(source)
        if is_bag(path) or path.is_file():
            return [os.path.realpath(path)]
        folders: dict[Path, str] = {}  # asking the disk for each image takes long
        names: dict[str, None] = {}
        for image in find_images(source):
            if image.parent not in folders:
                folders[image.parent] = os.path.realpath(image.parent)
            real = os.path.join(folders[image.parent], image.name)
            names[os.path.realpath(image) if image.is_symlink() else real] = None
    except (SourceError, OSError):  # opening it says why
        return [source]
    return list(names)


def expand(text: str) -> list[str]:
    """The sources that one word of the command line stands for, each to be opened by itself.

    A folder or pattern gives its images, as one source, and each of its videos and bags.
    """
    if is_live(text):
        return [text]
    try:
        return _expand_path(text)
    except OSError:  # opening it says why
        return [text]


def _expand_path(text: str) -> list[str]:
    path = Path(text)
    if path.is_file() or is_bag(path):
        return [text]
    if path.is_dir():
        entries = sorted(path.iterdir())
    elif glob.has_magic(text):
        entries = sorted(Path(name) for name in glob.glob(text, recursive=True))
    else:
        return [text]
    others = [
        str(entry)
        for entry in entries
        if is_bag(entry) or (entry.suffix.lower() in VIDEO_SUFFIXES and entry.is_file())
    ]
    images = any(entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file() for entry in entries)
    return [text, *others] if images or not others else others


def open_recording(text: str, selection: Selection, *, topics: Sequence[str] = ()) -> Recording:
    """Open a source.

    Args:
        text: an image, a folder or pattern of images, a video or animated GIF, a webcam as a number
            or ``/dev/video0``, a stream address, or a bag (its folder, or a .mcap, .db3 or .bag
            file).
        selection: the wanted frames.
        topics: of a bag, the topics to read; by default its colour images.

    Raises:
        SourceError: it does not exist or cannot be opened.
    """
    if is_live(text):
        return _Video(text, selection)
    path = Path(text)
    try:
        if is_bag(path):
            return BagRecording(path, selection, topics=topics)
        if path.is_file() and path.suffix.lower() not in IMAGE_SUFFIXES:
            return _Video(text, selection)
        if selection.by_time:
            raise SourceError(f"{text} holds images, which have no times; give a range of frames")
        return _Images(text, find_images(text), selection)
    except OSError as error:  # not allowed to look, or no name that a file can have
        raise SourceError(f"{text} cannot be read: {error.strerror or error}") from error


def is_live(text: str) -> bool:
    """Whether it is a webcam or stream, which cannot be read a second time."""
    return text.isdecimal() or text.startswith("/dev/video") or "://" in text


class _Images:
    """Image files; one that cannot be read is a failure of its own."""

    kind: Kind = "images"
    fps = None

    def __init__(self, name: str, paths: Sequence[Path], selection: Selection) -> None:
        self.name = name
        self._selection = selection
        self._paths = paths
        self.frame_count = selection.count(len(paths))

    def __iter__(self) -> Iterator[RecordedFrame | Failure]:
        for index, path in enumerate(self._paths):
            chosen = self._selection.choose(index, 0)
            if chosen is None:
                return
            if not chosen:
                continue
            try:
                image = decode_file(path.read_bytes())
            except (ImageError, OSError) as error:
                yield Failure(shown_name(str(path)), str(error))
            else:
                yield RecordedFrame(shown_name(str(path)), "", index, None, image)

    def close(self) -> None:
        """Nothing is open."""


class _Video:
    """A video, webcam or stream."""

    def __init__(self, name: str, selection: Selection) -> None:
        self.name = name
        self._warnings: list[str] = []
        self._source: FrameSource = open_source(
            name, on_warning=self._warnings.append, choose=_by_seconds(selection)
        )
        self.kind: Kind = self._source.kind
        fps = self._source.fps
        self.fps = fps and fps / selection.every
        self.frame_count = selection.count(self._source.frame_count, fps)

    def __iter__(self) -> Iterator[RecordedFrame | Failure]:
        name = shown_name(self.name)
        for frame in self._source:
            stamp_ns = time.time_ns() if self.kind == "live" else round(1e9 * frame.timestamp_s)
            yield RecordedFrame(name, "", frame.index, stamp_ns, frame.image)
        for warning in self._warnings:
            yield Failure(name, warning)

    def close(self) -> None:
        """Give the file or device back."""
        self._source.close()


def _by_seconds(selection: Selection) -> Callable[[int, float], bool | None]:
    def choose(index: int, seconds: float) -> bool | None:
        return selection.choose(index, round(1e9 * seconds))

    return choose
