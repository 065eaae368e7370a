"""Results as Parquet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose_node.errors import OutputError
from pose_node.poses import Poses
from pose_node.prediction import parquet_output
from pose_node.prediction.outputs import frame_as_json
from pose_node.prediction.parquet_output import Parquet
from tests.prediction.conftest import make_recorded, people_in

pytestmark = pytest.mark.usefixtures("parquet")

STRANGE = Poses.from_arrays([[1, 2, np.inf, 4]], [0.5], [[(np.nan, 2, 0.5)] * 3])


@pytest.fixture
def parquet() -> Any:
    """The module that reads it."""
    return pytest.importorskip("pyarrow.parquet", reason="pyarrow is missing")


def test_rows_are_those_of_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parquet: Any
) -> None:
    monkeypatch.setattr(parquet_output, "_ROWS", 2)  # more than one row group
    output = Parquet(tmp_path / "poses.parquet")
    output.begin(None)  # type: ignore[arg-type]
    frames = [make_recorded(index, stamp_ns=None if index == 3 else index) for index in range(5)]
    found = [STRANGE if frame.index == 2 else people_in(frame.image) for frame in frames]
    for frame, poses in zip(frames, found, strict=True):
        output.write(frame, poses)
    output.end(complete=True)
    assert not (tmp_path / "poses.parquet").exists()
    assert output.close() == [tmp_path / "poses.parquet"]
    rows = parquet.read_table(tmp_path / "poses.parquet").to_pylist()
    expected = [frame_as_json(*pair) for pair in zip(frames, found, strict=True)]
    assert rows == expected
    assert [path.name for path in tmp_path.iterdir()] == ["poses.parquet"]


def test_nothing_at_all(tmp_path: Path, parquet: Any) -> None:
    Parquet(tmp_path / "poses.parquet").close()
    assert parquet.read_table(tmp_path / "poses.parquet").num_rows == 0


def test_an_aborted_one_leaves_nothing(tmp_path: Path) -> None:
    output = Parquet(tmp_path / "poses.parquet")
    output.write(make_recorded(), Poses.empty(3))
    output.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*nowhere"):
        Parquet(tmp_path / "nowhere/poses.parquet")
    output = Parquet(tmp_path / "poses.parquet")
    (tmp_path / "poses.parquet").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*poses"):
        output.close()
    output.abort()


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = Parquet(tmp_path / "poses.parquet")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output._writer, "write_table", fail)
    output.write(make_recorded(), Poses.empty(3))
    with pytest.raises(OutputError, match="No space left on device"):
        output.close()
    output.abort()
    assert list(tmp_path.iterdir()) == []


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OutputError, match="pip install pyarrow"):
        Parquet(tmp_path / "poses.parquet")
