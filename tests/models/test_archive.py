"""Only archives as ``torch.save`` writes them are read, and nothing that they say is believed."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from pose_node.models.archive import Archive, ArchiveError

CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


def zipped(
    members: dict[str, bytes] | list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED
) -> bytes:
    """An archive as `zipfile` writes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items() if isinstance(members, dict) else members:
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=compression)
    return buffer.getvalue()


def saved() -> bytes:
    """An archive as `torch.save` writes it: sizes behind the data, directory told twice."""
    buffer = io.BytesIO()
    torch.save({"weights": torch.arange(100.0)}, buffer)
    return buffer.getvalue()


def edited(data: bytes, signature: bytes, offset: int, form: str, *values: int) -> bytes:
    """Other values at `offset` of the last structure that begins with `signature`."""
    changed = bytearray(data)
    struct.pack_into(f"<{form}", changed, data.rindex(signature) + offset, *values)
    return bytes(changed)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pt"


def opened(path: Path, data: bytes) -> Archive:
    path.write_bytes(data)
    return Archive(path)


SMALL = zipped({"m/data.pkl": b"abc", "m/data/0": bytes(100)})


def test_members_are_read(path: Path) -> None:
    archive = opened(path, SMALL)
    assert archive.names == ("m/data.pkl", "m/data/0")
    assert archive.read("m/data.pkl") == b"abc"
    assert archive.size_of("m/data/0") == 100
    with pytest.raises(ArchiveError, match="'m/data/1' is missing"):
        archive.read("m/data/1")
    with pytest.raises(ArchiveError, match="'m/data/1' is missing"):
        archive.size_of("m/data/1")
    archive.close()


def test_what_torch_writes_is_read(path: Path) -> None:
    archive = opened(path, saved())
    weights = torch.frombuffer(archive.read("archive/data/0"), dtype=torch.float32)
    assert torch.equal(weights, torch.arange(100.0))
    archive.close()


def test_what_torch_writes_without_checksums_is_read(path: Path) -> None:
    data = edited(saved(), b"archive/data/0", -46 + 16, "L", 0)
    data = edited(data, CENTRAL, 16, "L", 0)
    archive = opened(path, data)
    for name in archive.names:
        assert len(archive.read(name)) == archive.size_of(name)
    archive.close()


def test_a_checksum_is_checked(path: Path) -> None:
    archive = opened(path, SMALL.replace(b"abc", b"abx", 1))
    with pytest.raises(ArchiveError, match=r"'m/data\.pkl' is damaged: its checksum is another"):
        archive.read("m/data.pkl")
    archive.close()


@pytest.mark.parametrize(
    "name",
    ["m/../../evil", "../evil", "/etc/evil", "m\\evil", "C:evil", "m/\0evil", ".."],
)
def test_names_that_lead_outside_are_refused(path: Path, name: str) -> None:
    data = zipped({"m/data.pkl": b"", "x" * len(name): b""})
    data = data.replace(b"x" * len(name), name.encode())
    with pytest.raises(ArchiveError, match="member outside itself"):
        opened(path, data)


def test_names_that_are_no_text_are_refused(path: Path) -> None:
    with pytest.raises(ArchiveError, match="without a proper name"):
        opened(path, SMALL.replace(b"m/data/0", b"m/data\xff\xfe"))
    with pytest.raises(ArchiveError, match="member outside itself: ''"):
        opened(path, zipped({"": b""}))


def test_compressed_members_are_refused_unread(path: Path) -> None:
    bomb = zipped({"m/data.pkl": b"", "m/data/0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ArchiveError, match="compressed or encrypted"):
        opened(path, bomb)
    with pytest.raises(ArchiveError, match="compressed or encrypted"):
        opened(path, edited(SMALL, CENTRAL, 8, "H", 1))


def test_symbolic_links_are_refused(path: Path) -> None:
    with pytest.raises(ArchiveError, match="'m/data/0' is a symbolic link"):
        opened(path, edited(SMALL, CENTRAL, 38, "L", 0o120777 << 16))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_given_twice_is_refused(path: Path) -> None:
    with pytest.raises(ArchiveError, match="'m/data/0' is there twice"):
        opened(path, zipped([("m/data/0", b"a"), ("m/data/0", b"b")]))


def test_members_that_overlap_are_refused(path: Path) -> None:
    """Many members that are the same bytes would let a small file fill the memory."""
    with pytest.raises(ArchiveError, match=r"'m/data\.pkl' claims bytes of the next one"):
        opened(path, edited(SMALL, CENTRAL, 42, "L", 0))  # the second one's header is the first's
    with pytest.raises(ArchiveError, match="claims bytes of the next one"):
        opened(path, edited(SMALL, CENTRAL, 20, "2L", 5000, 5000))


def test_a_local_header_cannot_reach_into_the_next_member(path: Path) -> None:
    archive = opened(path, edited(SMALL, LOCAL, 28, "H", 200))  # a longer extra field
    with pytest.raises(ArchiveError, match="not what the directory says"):
        archive.read("m/data/0")
    archive.close()


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [(0, "L", 0), (6, "H", 1), (8, "H", 8), (14, "L", 7), (18, "L", 7), (22, "L", 7), (26, "H", 7)],
)
def test_headers_that_contradict_the_directory_are_refused(
    path: Path, offset: int, form: str, value: int
) -> None:
    archive = opened(path, edited(SMALL, LOCAL, offset, form, value))
    with pytest.raises(ArchiveError, match="'m/data/0' is damaged"):
        archive.read("m/data/0")
    archive.close()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (edited(SMALL, END, 8, "2H", 30_000, 30_000), "claims 30000 members"),
        (edited(SMALL, END, 12, "L", 1 << 30), "in a directory of 1073741824 bytes|not where"),
        (edited(SMALL, END, 16, "L", 7), "not where its end says"),
        (edited(SMALL, END, 4, "H", 1), "not where its end says"),
        (edited(SMALL, END, 8, "H", 1), "not where its end says"),
        (edited(SMALL, END, 8, "2H", 1, 1), "holds more than its members"),
        (edited(SMALL, END, 8, "2H", 3, 3), "directory is cut"),
        (edited(SMALL, END, 20, "H", 1), "damaged or cut archive"),
        (edited(SMALL, CENTRAL, 0, "L", 7), "directory is damaged"),
        (edited(SMALL, CENTRAL, 34, "H", 7), "directory is damaged"),
        (edited(SMALL, CENTRAL, 28, "H", 60_000), "directory is damaged|proper name|outside"),
        (SMALL + b"\0", "damaged or cut archive; fetch or copy it again"),
        (SMALL[:-1], "damaged or cut archive"),
        (LOCAL + b" " * 1000, "damaged or cut archive"),
        (b"", "not a zip archive"),
        (b"not an archive, but long enough to be one", "not a zip archive"),
    ],
)
def test_ends_and_directories_that_lie_are_refused(path: Path, data: bytes, text: str) -> None:
    with pytest.raises(ArchiveError, match=text):
        opened(path, data)


@pytest.mark.parametrize("offset", [4, 16, 20, 24, 32, 40, 48])
def test_a_second_description_that_differs_is_refused(path: Path, offset: int) -> None:
    with pytest.raises(ArchiveError, match="describes its directory twice, and not alike"):
        opened(path, edited(saved(), b"PK\x06\x06", offset, "L", 99))
    with pytest.raises(ArchiveError, match="describes its directory twice, and not alike"):
        opened(path, edited(saved(), b"PK\x06\x07", 8, "Q", 1 << 60))


def test_too_large_a_file_is_refused_unread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pose_node.models.archive.MAX_FILE_BYTES", 100)
    with pytest.raises(ArchiveError, match=f"it has {len(SMALL)} bytes, expected at most 100"):
        opened(path, SMALL)


def test_a_file_that_becomes_shorter_is_noticed(path: Path) -> None:
    archive = opened(path, SMALL)
    path.write_bytes(SMALL[:90])
    with pytest.raises(ArchiveError, match="became shorter while it was read"):
        archive.read("m/data/0")
    archive.close()
