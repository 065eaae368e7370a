"""Reads the zip archives of ``torch.save``: members stored as they are, beside one another.

The standard library's ``zipfile`` reads every kind of archive, and believes most of what one says
of itself: members may overlap, and a long directory fills the memory before it can be counted. This
reader takes only what ``torch.save`` (and a plain ``zip -0``) writes, checks it before it allocates
anything, and never maps the file: one that shrinks meanwhile gives an error, not a signal.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_FILE_BYTES = 1 << 31  # the largest published pose checkpoint has a tenth of it
MAX_MEMBERS = 20_000  # one for each tensor, optimiser included: published files have below 2000
MAX_DIRECTORY_BYTES = 8 << 20

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_SIZES_FOLLOW = 0x8  # flag: the local header leaves the sizes to the directory
_FLAGS = _SIZES_FOLLOW | 0x6 | 0x800  # and: compression levels, which mean nothing here; UTF-8


class ArchiveError(ValueError):
    """The archive is damaged, or not of the kind that ``torch.save`` writes."""


@dataclass(frozen=True)
class _Member:
    name: str
    offset: int  # of its local header
    size: int
    checksum: int
    limit: int = 0  # where the next member, or the directory, begins

    @property
    def smallest_end(self) -> int:
        return self.offset + _LOCAL.size + len(self.name.encode()) + self.size


class Archive:
    """An open archive. Members are read from the file when asked for.

    Args:
        path: the file.

    Attributes:
        size: of the file, in bytes.
        names: of the members, in the order in which they lie in the file.

    Raises:
        ArchiveError: it is no archive, or damaged, or holds what ``torch.save`` never writes.
        OSError: the file cannot be opened or read.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            members = self._read_directory()
        except BaseException:
            self.close()
            raise
        self._members = {member.name: member for member in members}
        self.names = tuple(self._members)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def size_of(self, name: str) -> int:
        """Size of a member in bytes.

        Raises:
            ArchiveError: it is missing.
        """
        return self._member(name).size

    def read(self, name: str) -> bytearray:
        """The bytes of a member.

        Raises:
            ArchiveError: it is missing or damaged.
            OSError: the file cannot be read.
        """
        member = self._member(name)
        header = self._at(member.offset, _LOCAL.size)
        signature, _, flags, method, _, _, checksum, stored, size, name_length, extra = (
            _LOCAL.unpack(header)
        )
        start = member.offset + _LOCAL.size + name_length + extra
        sizes = (0, 0) if flags & _SIZES_FOLLOW and not size else (member.size, member.size)
        if (
            signature != b"PK\x03\x04"
            or flags & ~_FLAGS
            or method
            or (stored, size) != sizes
            or checksum not in (0, member.checksum)
            or start + member.size > member.limit
            or bytes(self._at(member.offset + _LOCAL.size, name_length)) != name.encode()
        ):
            raise ArchiveError(
                f"member {name!r:.120} is damaged: it is not what the directory says"
            )
        data = self._at(start, member.size)
        # 0 is what torch writes when told not to compute it.
        if member.checksum and zlib.crc32(data) != member.checksum:
            raise ArchiveError(f"member {name!r:.120} is damaged: its checksum is another")
        return data

    def _member(self, name: str) -> _Member:
        if name not in self._members:
            raise ArchiveError(f"member {name!r:.120} is missing")
        return self._members[name]

    def _at(self, offset: int, size: int) -> bytearray:
        """`size` bytes from `offset`: asked for only where the file is known to be that long."""
        data = bytearray(size)
        self._file.seek(offset)
        view, filled = memoryview(data), 0
        while filled < size:
            count = self._file.readinto(view[filled:])
            if not count:
                raise ArchiveError("it is cut: the file became shorter while it was read")
            filled += count
        return data

    def _read_directory(self) -> list[_Member]:
        if self.size > MAX_FILE_BYTES:
            raise ArchiveError(f"it has {self.size} bytes, expected at most {MAX_FILE_BYTES}")
        count, size, offset = self._find_directory()
        if count > MAX_MEMBERS or size > MAX_DIRECTORY_BYTES:
            raise ArchiveError(
                f"the archive claims {count} members in a directory of {size} bytes, expected at "
                f"most {MAX_MEMBERS} in {MAX_DIRECTORY_BYTES}"
            )
        members = list(_parse_directory(self._at(offset, size), count))
        members.sort(key=lambda member: member.offset)
        names = set()
        result = []
        for index, member in enumerate(members):
            limit = members[index + 1].offset if index + 1 < count else offset
            if member.smallest_end > limit:
                raise ArchiveError(
                    f"member {member.name!r:.120} claims bytes of the next one: they overlap"
                )
            if member.name in names:
                raise ArchiveError(f"member {member.name!r:.120} is there twice")
            names.add(member.name)
            result.append(_Member(member.name, member.offset, member.size, member.checksum, limit))
        return result

    def _find_directory(self) -> tuple[int, int, int]:
        """Number of members, size and offset of the directory, from the end of the file."""
        if self.size < _END.size:
            raise ArchiveError(self._no_archive())
        end = self.size - _END.size
        signature, disk, first, here, count, size, offset, comment = _END.unpack(
            self._at(end, _END.size)
        )
        if signature != b"PK\x05\x06" or comment:
            raise ArchiveError(self._no_archive())
        before = end
        if end >= _LOCATOR64.size + _END64.size:
            before = self._skip_end64(end, (count, size, offset))
        if disk or first or here != count or offset + size != before:
            raise ArchiveError("the archive's directory is not where its end says: it is damaged")
        return count, size, offset

    def _skip_end64(self, end: int, expected: tuple[int, int, int]) -> int:
        """Where the second description of the directory begins, which torch adds; else `end`."""
        start = end - _LOCATOR64.size - _END64.size
        data = self._at(start, _END64.size + _LOCATOR64.size)
        signature, disk, offset, disks = _LOCATOR64.unpack_from(data, _END64.size)
        if signature != b"PK\x06\x07":
            return end
        record = _END64.unpack_from(data)
        if (
            (disk, offset, disks) != (0, start, 1)
            or record[:2] != (b"PK\x06\x06", _END64.size - 12)
            or record[4:] != (0, 0, expected[0], *expected)
        ):
            raise ArchiveError("the archive describes its directory twice, and not alike")
        return start

    def _no_archive(self) -> str:
        if self.size >= 4 and self._at(0, 4) == b"PK\x03\x04":
            return "it is a damaged or cut archive; fetch or copy it again"
        return "it is not a zip archive as torch.save writes it since torch 1.6"


def _parse_directory(data: bytearray, count: int) -> Iterator[_Member]:
    position = 0
    for _ in range(count):
        if position + _CENTRAL.size > len(data):
            raise ArchiveError("the archive's directory is cut")
        fields = _CENTRAL.unpack_from(data, position)
        signature, _, _, flags, method, _, _, checksum, stored, size = fields[:10]
        name_length, extra, comment, disk, _, attributes, offset = fields[10:]
        position += _CENTRAL.size
        name = _decode(bytes(data[position : position + name_length]))
        position += name_length + extra + comment
        if signature != b"PK\x01\x02" or position > len(data) or disk:
            raise ArchiveError("the archive's directory is damaged")
        if method or flags & ~_FLAGS or stored != size:
            raise ArchiveError(f"member {name!r:.120} is compressed or encrypted; torch stores")
        if stat.S_ISLNK(attributes >> 16):
            raise ArchiveError(f"member {name!r:.120} is a symbolic link")
        yield _Member(name, offset, size, checksum)
    if position != len(data):
        raise ArchiveError("the archive's directory holds more than its members")


def _decode(name: bytes) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError as error:
        raise ArchiveError(f"the archive has a member without a proper name: {name!r:.120}") from (
            error
        )
    if not text or "\\" in text or "\0" in text or text[0] == "/" or text[1:2] == ":":
        raise ArchiveError(f"the archive has a member outside itself: {text!r:.120}")
    if ".." in text.split("/"):
        raise ArchiveError(f"the archive has a member outside itself: {text!r:.120}")
    return text
