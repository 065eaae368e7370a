"""Recordings of the viewer, read back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def sdk() -> None:
    """Skips where the Rerun SDK is missing, as in an environment with NumPy 1."""
    pytest.importorskip("rerun", reason="the Rerun SDK is missing")


@pytest.fixture
def read_back(sdk: None) -> Callable[[Path], Rows]:
    """Reads a .rrd file: for each entity its rows, with timelines and components by name."""
    return _read


def _read(path: Path) -> Rows:
    try:
        from rerun.chunk import RrdReader
    except ImportError:  # older ones
        from rerun.experimental import RrdReader

    found: Rows = defaultdict(list)
    for chunk in RrdReader(str(path)).stream():
        batch = chunk.to_record_batch()
        rows = [{} for _ in range(batch.num_rows)]
        for name in batch.schema.names:
            for row, value in zip(rows, batch.column(name), strict=True):
                # Times as numbers, not as datetimes with microseconds.
                is_time = hasattr(value, "value") and isinstance(value.value, int)
                row[name] = value.value if is_time else value.as_py()
        found[chunk.entity_path] += rows
    return found
