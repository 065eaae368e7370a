"""Files that are there complete or not at all: written beside their place, renamed when done."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pose_node.errors import OutputError


def unfinished(path: Path) -> Path:
    """Where a file or folder is written until it is complete: hidden, in the same folder."""
    return path.with_name(f".{path.name}.partial")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, complete or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
