"""Reads the checkpoints of ``torch.save`` without running anything in them.

An archive holds ``<root>/data.pkl``, a pickle that describes the module tree, and one member
``<root>/data/<key>`` of raw little-endian numbers for each storage. The archive is read by
`pose_node.models.archive`, the pickle by `pose_node.models.pickle_machine`; this module turns its
references into tensors.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from pose_node.errors import CheckpointError
from pose_node.models.archive import Archive, ArchiveError
from pose_node.models.inert import MAX_DIMENSIONS
from pose_node.models.pickle_machine import (
    MAX_PICKLE_BYTES,
    PickleError,
    StorageReference,
    TensorReference,
    read_pickle,
)

# Weights are shared now and then, never many times over: tensors may take twice the file's size,
# as float16 widened to float32 does, and storages may be read four times over.
MAX_WIDENING = 2
MAX_SHARING = 4
ALLOWANCE_BYTES = 1 << 20  # for small files in which little is shared much
MAX_EXTENT = 1 << 40  # of sizes, strides and offsets: what torch itself can hold

# Types as which numbers are read, and as which they are given, where that is not their own. A bool
# is read as a number because any byte but 0 and 1 would be none.
_STORED = {"bfloat16": "uint16", "bool": "uint8"}
_GIVEN = {"bfloat16": "float32", "float16": "float32", "float64": "float32"}


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
        self._bytes_given = 0
        self._archive = self._open()
        try:
            self._root = self._find_root()
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
        stored = reference.storage
        self._check_tensor(reference)
        dtype = np.dtype(_STORED.get(stored.dtype, stored.dtype)).newbyteorder("<")
        wanted = np.dtype(_GIVEN.get(stored.dtype, stored.dtype))
        given = math.prod(reference.shape) * wanted.itemsize
        data = self._read_storage(stored, dtype.itemsize, given)
        strides = [stride * dtype.itemsize for stride in reference.strides]
        flat = np.frombuffer(data, dtype)[reference.offset :]
        view = np.lib.stride_tricks.as_strided(flat, reference.shape, strides)
        # A copy, so that the tensor is packed and owns no more than its own elements. By numpy,
        # because torch would share so little work among threads, and wait for each of them.
        if stored.dtype == "bfloat16":  # the upper half of a float32
            bits = view.astype(np.uint32, order="C")
            bits <<= 16
            return torch.from_numpy(bits.view(np.float32))
        with np.errstate(over="ignore"):  # too large for float32: infinite, which is refused
            return torch.from_numpy(view.astype(wanted, order="C"))

    def _read_storage(self, stored: StorageReference, item_size: int, given: int) -> bytearray:
        """The bytes of a storage, of which a tensor of `given` bytes will be made."""
        name = f"{self._root}/data/{stored.key}"
        try:
            size = self._archive.size_of(name)
            if size != stored.numel * item_size:
                raise ArchiveError(
                    f"storage {stored.key!r:.40} should have {stored.numel} x {item_size} bytes, "
                    f"it has {size}"
                )
            self._bytes_read += size
            self._bytes_given += given
            if (
                self._bytes_read > MAX_SHARING * self._archive.size + ALLOWANCE_BYTES
                or self._bytes_given > MAX_WIDENING * self._archive.size + ALLOWANCE_BYTES
            ):
                raise ArchiveError("its storages are used many times over")
            return self._archive.read(name)
        except (ArchiveError, OSError) as error:
            raise self._error(str(error)) from error

    def _error(self, reason: str) -> CheckpointError:
        return CheckpointError(f"cannot read {self.path}: {reason}")

    def _open(self) -> Archive:
        try:
            if not self.path.exists():
                raise self._error("there is no such file")
            if not self.path.is_file():
                raise self._error("it is not a file")
            return Archive(self.path)
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error
        except ArchiveError as error:
            raise self._error(str(error)) from error

    def _find_root(self) -> str:
        names = self._archive.names
        roots = [name[: -len("/data.pkl")] for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1 or "/" in roots[0]:
            raise self._error(
                f"expected one member <name>/data.pkl as torch.save writes it, found {len(roots)}"
            )
        if f"{roots[0]}/constants.pkl" in names:
            raise self._error("it is a TorchScript program; expected a checkpoint of torch.save")
        return roots[0]

    def _check_byte_order(self) -> None:
        name = f"{self._root}/byteorder"
        if name in self._archive.names and self._read_member(name, len("little")) != b"little":
            raise self._error(
                "its numbers are not little-endian; save it again on a common machine"
            )

    def _read_content(self) -> Any:
        try:
            data = self._read_member(f"{self._root}/data.pkl", MAX_PICKLE_BYTES)
            return read_pickle(bytes(data))
        except PickleError as error:
            raise self._error(f"refused its pickle: {error}. Nothing of it was run") from error

    def _read_member(self, name: str, limit: int) -> bytearray:
        try:
            if (size := self._archive.size_of(name)) > limit:
                raise ArchiveError(f"{name!r:.120} has {size} bytes, expected at most {limit}")
            return self._archive.read(name)
        except (ArchiveError, OSError) as error:
            raise self._error(str(error)) from error

    def _check_tensor(self, reference: TensorReference) -> None:
        stored, shape, strides = reference.storage, reference.shape, reference.strides
        fits = (
            len(shape) == len(strides)
            and len(shape) <= MAX_DIMENSIONS
            and stored.numel >= 0
            and all(
                0 <= value <= MAX_EXTENT
                for value in (stored.numel, reference.offset, *shape, *strides)
            )
            and math.prod(max(size, 1) for size in shape) <= MAX_EXTENT
        )
        if fits and all(shape):
            # From the innermost dimension outwards, each step must pass over all within it.
            extent = 1
            for stride, size in sorted(zip(strides, shape, strict=True)):
                fits = fits and (size == 1 or stride >= extent)
                extent += (size - 1) * stride
            fits = fits and reference.offset + extent <= stored.numel
        if not fits:
            raise self._error(
                f"a tensor of shape {shape}, strides {strides}, offset {reference.offset} does not "
                f"fit its storage {stored.key!r:.40} of {stored.numel} elements, or repeats some"
            )


__all__ = ["Checkpoint", "StorageReference", "TensorReference"]
