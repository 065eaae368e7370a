"""Reads the zip archives of ``torch.save`` without running anything in them.

An archive holds ``<root>/data.pkl``, a pickle that describes the module tree, and one member
``<root>/data/<key>`` of raw little-endian numbers for each storage. The pickle goes through
`pose_node.models.pickle_machine`; this module checks the archive and turns references into tensors.
"""

from __future__ import annotations

import math
import os
import stat
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from pose_node.errors import CheckpointError
from pose_node.models.pickle_machine import (
    MAX_PICKLE_BYTES,
    PickleError,
    StorageReference,
    TensorReference,
    read_pickle,
)

MAX_MEMBERS = 100_000
# Weights are shared now and then (an exponential average and its model), never many times over.
MAX_SHARING = 4
MAX_EXTENT = 1 << 40  # of sizes, strides and offsets: what torch itself can hold


class Checkpoint:
    """An open checkpoint: `content` is what its pickle describes; `tensor` reads one tensor.

    Use as a context manager. Storages are read from the file when a tensor is asked for, so that
    memory stays near the size of the weights that are really used.

    Args:
        path: the file.

    Raises:
        CheckpointError: the file is missing, no archive, damaged, foreign or hostile. The text
            names the file and the reason.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._bytes_read = 0
        self._archive = _open_archive(self.path)
        try:
            self._root = self._check_members()
            self._check_byte_order()
            self.content: Any = self._read_content()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def tensor(self, reference: TensorReference) -> torch.Tensor:
        """Read one tensor, floating point as float32, everything else as it is stored.

        Raises:
            CheckpointError: the tensor does not lie within its storage, repeats elements, or the
                storage is damaged.
        """
        storage = reference.storage
        self._check_tensor(reference)
        self._bytes_read += storage.numel  # at least; an element has one byte or more
        if self._bytes_read > MAX_SHARING * self._file_size:
            raise self._error("its storages are used many times over")
        data = bytearray(self._read_member(f"{self._root}/data/{storage.key}"))
        dtype: torch.dtype = getattr(torch, storage.dtype)
        if len(data) != storage.numel * dtype.itemsize:
            raise self._error(
                f"storage {storage.key!r} should have {storage.numel} x {dtype.itemsize} bytes, "
                f"it has {len(data)}"
            )
        if not data:
            return torch.empty(reference.shape, dtype=dtype).float()
        flat = torch.frombuffer(data, dtype=dtype)
        view = flat.as_strided(reference.shape, reference.strides, reference.offset)
        # A copy, so that the tensor is packed and owns no more than its own elements.
        return view.to(torch.float32 if dtype.is_floating_point else dtype, copy=True).contiguous()

    def _error(self, reason: str) -> CheckpointError:
        return CheckpointError(f"cannot read {self.path}: {reason}")

    def _check_members(self) -> str:
        members = self._archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise self._error(f"the archive has {len(members)} members, at most {MAX_MEMBERS}")
        self._file_size = self.path.stat().st_size
        if sum(member.file_size for member in members) > self._file_size:
            raise self._error("the archive's members claim more bytes than the file has")
        names = set()
        for member in members:
            name = member.filename
            if ".." in Path(name).parts or name.startswith("/") or "\\" in name:
                raise self._error(f"the archive has a member outside itself: {name!r:.120}")
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 0x1:
                raise self._error(f"member {name!r:.120} is compressed or encrypted; torch stores")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise self._error(f"member {name!r:.120} is a symbolic link")
            if name in names:
                raise self._error(f"member {name!r:.120} is there twice")
            names.add(name)
        roots = [name[: -len("/data.pkl")] for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1 or "/" in roots[0]:
            raise self._error(
                f"expected one member <name>/data.pkl as torch.save writes it, found {len(roots)}"
            )
        return roots[0]

    def _check_byte_order(self) -> None:
        name = f"{self._root}/byteorder"
        if name in self._archive.NameToInfo and self._read_member(name) != b"little":
            raise self._error(
                "its numbers are not little-endian; save it again on a common machine"
            )

    def _read_content(self) -> Any:
        name = f"{self._root}/data.pkl"
        size = self._archive.getinfo(name).file_size
        if size > MAX_PICKLE_BYTES:
            raise self._error(f"its pickle has {size} bytes, expected at most {MAX_PICKLE_BYTES}")
        try:
            return read_pickle(self._read_member(name))
        except PickleError as error:
            raise self._error(f"refused its pickle: {error}. Nothing of it was run") from error

    def _read_member(self, name: str) -> bytes:
        try:
            return self._archive.read(name)
        except KeyError as error:
            raise self._error(f"member {name!r:.120} is missing") from error
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError) as error:
            raise self._error(f"member {name!r:.120} is damaged: {error}") from error

    def _check_tensor(self, reference: TensorReference) -> None:
        storage, shape, strides = reference.storage, reference.shape, reference.strides
        fits = (
            len(shape) == len(strides)
            and len(shape) <= 8
            and storage.numel >= 0
            and all(0 <= value <= MAX_EXTENT for value in (reference.offset, *shape, *strides))
            and math.prod(max(size, 1) for size in shape) <= MAX_EXTENT
        )
        if fits and all(shape):
            last = reference.offset + sum(
                (size - 1) * stride for size, stride in zip(shape, strides, strict=True)
            )
            fits = last < storage.numel and math.prod(shape) <= storage.numel
        if not fits:
            raise self._error(
                f"a tensor of shape {shape}, strides {strides}, offset {reference.offset} does not "
                f"fit its storage {storage.key!r:.40} of {storage.numel} elements"
            )


def _open_archive(path: Path) -> zipfile.ZipFile:
    if not path.exists():
        raise CheckpointError(f"cannot read {path}: there is no such file")
    if not path.is_file():
        raise CheckpointError(f"cannot read {path}: it is not a file")
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RecursionError) as error:
        with path.open("rb") as file:
            start = file.read(4)
        reason = (
            "it is a damaged or cut archive; fetch or copy it again"
            if start == b"PK\x03\x04"
            else "it is not a zip archive as torch.save writes it since torch 1.6"
        )
        raise CheckpointError(f"cannot read {path}: {reason} ({error})") from error


__all__ = ["Checkpoint", "StorageReference", "TensorReference"]
