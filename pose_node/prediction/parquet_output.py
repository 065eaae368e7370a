"""Results as a Parquet file, for whoever asks questions of many of them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from pose_node.errors import OutputError
from pose_node.output_files import unfinished
from pose_node.poses import Poses
from pose_node.prediction.frames import RecordedFrame, Recording
from pose_node.prediction.outputs import frame_as_json

_ROWS = 2048  # that are written at once, as a row group,
_PEOPLE = 4096  # or fewer, in crowds: as Python objects each of them takes some 10 kB


class Parquet:
    """A row for each frame, with the fields of the JSON Lines; docs/predict.md has the schema.

    Raises:
        OutputError: pyarrow is missing, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise OutputError(
                f"--save parquet needs pyarrow, which cannot be imported ({error}): "
                "`pip install pyarrow`"
            ) from error
        self.path = path
        self._arrow: Any = pyarrow
        self._schema = _schema(pyarrow)
        self._rows: list[dict[str, Any]] = []
        self._people = 0
        self._temporary = unfinished(path)
        try:
            self._file = self._temporary.open("wb")  # whose name Arrow would want in UTF-8
            self._writer = pyarrow.parquet.ParquetWriter(self._file, self._schema)
        except OSError as error:
            raise self._failed(error) from error

    def begin(self, recording: Recording) -> None:
        """Nothing to do."""

    def write(self, frame: RecordedFrame, poses: Poses) -> None:
        """Add a row."""
        self._rows.append(frame_as_json(frame, poses))
        self._people += len(poses)
        if len(self._rows) >= _ROWS or self._people >= _PEOPLE:
            self._write_rows()

    def end(self, *, complete: bool) -> None:
        """Nothing to do."""

    def close(self) -> list[Path]:
        """Finish the file."""
        self._write_rows()
        try:
            self._writer.close()
            self._file.close()
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise self._failed(error) from error
        return [self.path]

    def abort(self) -> None:
        """Delete it."""
        self._writer.is_open = False  # else it writes what is left when it is collected
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def _write_rows(self) -> None:
        if not self._rows:
            return
        try:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, self._schema))
        except OSError as error:
            raise self._failed(error) from error
        self._rows, self._people = [], 0

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self.path}: {error.strerror or error}")


def _schema(arrow: Any) -> Any:
    """Pixels and scores are doubles, so that they are the same numbers as in JSON."""
    number, text = arrow.float64(), arrow.string()
    person = arrow.struct(
        [
            ("id", arrow.int64()),
            ("score", number),
            ("box", arrow.list_(number)),
            ("keypoints", arrow.list_(arrow.list_(number))),
        ]
    )
    return arrow.schema(
        [
            ("source", text),
            ("topic", text),
            ("frame", arrow.int64()),
            ("stamp_ns", arrow.int64()),
            ("width", arrow.int32()),
            ("height", arrow.int32()),
            ("people", arrow.list_(person)),
        ]
    )
