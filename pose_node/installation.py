"""Where the files lie that are installed beside the Python code: configuration, definitions."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path


def find_installed(relative: str, environment: Mapping[str, str] | None = None) -> Path | None:
    """A file of a source checkout, else as colcon or pip installed it; None if it is nowhere.

    Args:
        relative: its path in the checkout and in ``share/pose_node``, for example
            ``config/fastdds.xml``.
        environment: variables, by default those of this process.
    """
    for folder in _share_folders(os.environ if environment is None else environment):
        path = folder / relative
        if path.is_file():
            return path
    return None


def _share_folders(variables: Mapping[str, str]) -> Iterator[Path]:
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "package.xml").is_file():
        yield checkout
    sourced = filter(None, variables.get("AMENT_PREFIX_PATH", "").split(os.pathsep))
    prefixes = [Path(prefix) for prefix in (*sourced, sys.prefix)]
    for prefix in (*prefixes, *Path(__file__).resolve().parents):
        yield prefix / "share" / "pose_node"
