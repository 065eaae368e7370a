"""Archives are checked before anything of them is used."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from pose_node.errors import CheckpointError
from pose_node.models.checkpoint import MAX_SHARING, Checkpoint
from pose_node.models.pickle_machine import StorageReference, TensorReference


def write_archive(
    path: Path,
    members: dict[str, bytes],
    *,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def numbers(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A checkpoint of one storage of six numbers."""
    members = {
        "model/data.pkl": pickle.dumps({"model": None}, 2),
        "model/byteorder": b"little",
        "model/data/0": numbers(0, 1, 2, 3, 4, 5),
    }
    return write_archive(tmp_path / "model.pt", members)


def reference(
    *,
    key: str = "0",
    numel: int = 6,
    offset: int = 0,
    shape: tuple[int, ...] = (2, 3),
    strides: tuple[int, ...] = (3, 1),
) -> TensorReference:
    return TensorReference(StorageReference("float32", key, numel), offset, shape, strides)


def test_tensors_are_views_of_their_storage(archive: Path) -> None:
    with Checkpoint(archive) as checkpoint:
        assert checkpoint.tensor(reference()).tolist() == [[0, 1, 2], [3, 4, 5]]
        transposed = checkpoint.tensor(reference(shape=(3, 2), strides=(1, 3)))
        assert transposed.tolist() == [[0, 3], [1, 4], [2, 5]]
        assert transposed.is_contiguous()
        assert checkpoint.tensor(reference(offset=4, shape=(2,), strides=(1,))).tolist() == [4, 5]
        assert checkpoint.tensor(reference(shape=(), strides=())).item() == 0


def test_what_torch_saves_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    state = {
        "half": torch.randn(3, 4).half(),
        "whole": torch.arange(5),
        "view": torch.randn(6, 6)[1:4, ::2],
        "none": torch.empty(0, 3),
        "brain": torch.randn(4).bfloat16(),
    }
    torch.save(state, path)
    with Checkpoint(path) as checkpoint:
        for name, expected in state.items():
            found = checkpoint.tensor(checkpoint.content[name])
            wanted = expected.float() if expected.is_floating_point() else expected
            assert found.dtype == wanted.dtype
            assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    "wrong",
    [
        reference(offset=-1),
        reference(offset=1),
        reference(shape=(2, 4), strides=(4, 1)),
        reference(strides=(-3, 1)),
        reference(shape=(-2, 3)),
        reference(shape=(10**9, 10**9), strides=(0, 0)),
        reference(shape=(6, 6), strides=(1, 0)),
        reference(shape=(2,)),
        reference(numel=-1),
        reference(shape=(1,) * 9, strides=(1,) * 9),
        reference(shape=(2**62, 2**62)),
        reference(shape=(0, 2**70)),
        reference(shape=(0, 2**30, 2**30), strides=(1, 1, 1)),
        reference(offset=2**70, shape=(0,), strides=(1,)),
        reference(shape=(0,), strides=(2**70,)),
    ],
)
def test_tensors_outside_their_storage_are_refused(archive: Path, wrong: TensorReference) -> None:
    with Checkpoint(archive) as checkpoint, pytest.raises(CheckpointError, match="does not fit"):
        checkpoint.tensor(wrong)


def test_a_storage_of_another_size_is_refused(archive: Path) -> None:
    with Checkpoint(archive) as checkpoint:
        with pytest.raises(CheckpointError, match="should have 7 x 4 bytes, it has 24"):
            checkpoint.tensor(reference(numel=7))
        with pytest.raises(CheckpointError, match="'model/data/9' is missing"):
            checkpoint.tensor(reference(key="9"))


def test_one_storage_used_over_and_over_is_refused(archive: Path) -> None:
    limit = archive.stat().st_size * MAX_SHARING
    with Checkpoint(archive) as checkpoint:
        for _ in range(limit // 6):
            checkpoint.tensor(reference())
        with pytest.raises(CheckpointError, match="used many times over"):
            checkpoint.tensor(reference())


PICKLE = pickle.dumps({}, 2)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"m/data.pkl": PICKLE, "m/../../evil": b""}, "member outside itself"),
        ({"m/data.pkl": PICKLE, "/etc/evil": b""}, "member outside itself"),
        ({"m/data.pkl": PICKLE, "m\\evil": b""}, "member outside itself"),
        ({"m/data.pkl": PICKLE, "n/data.pkl": PICKLE}, "one member <name>/data.pkl .* found 2"),
        ({"m/version": b"3"}, "one member <name>/data.pkl .* found 0"),
        ({"a/b/data.pkl": PICKLE}, "one member <name>/data.pkl"),
        ({"m/data.pkl": PICKLE, "m/byteorder": b"big"}, "not little-endian"),
        ({"m/data.pkl": b"cos\nsystem\n."}, r"refused its pickle: it names 'os\.system'"),
        ({"m/data.pkl": b"x" * 5_000_000}, "its pickle has 5000000 bytes"),
    ],
)
def test_archives_that_torch_never_writes_are_refused(
    tmp_path: Path, members: dict[str, bytes], text: str
) -> None:
    path = write_archive(tmp_path / "model.pt", members)
    with pytest.raises(CheckpointError, match=text) as error:
        Checkpoint(path)
    assert str(path) in str(error.value)


def test_a_compressed_bomb_is_refused_unread(tmp_path: Path) -> None:
    members = {"m/data.pkl": PICKLE, "m/data/0": bytes(50_000_000)}
    path = write_archive(tmp_path / "bomb.pt", members, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="claim more bytes than the file has"):
        Checkpoint(path)


def test_a_compressed_member_is_refused(tmp_path: Path) -> None:
    members = {"m/data.pkl": pickle.dumps("ab", 2), "m/data/0": bytes(range(256))}
    path = write_archive(tmp_path / "m.pt", members, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="is compressed or encrypted"):
        Checkpoint(path)


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "link.pt"
    link = zipfile.ZipInfo("m/data/0")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", PICKLE)
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(CheckpointError, match="symbolic link"):
        Checkpoint(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("m/data.pkl", "m/data/0", "m/data/0"):
            archive.writestr(name, PICKLE)
    with pytest.raises(CheckpointError, match="there twice"):
        Checkpoint(path)


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pose_node.models.checkpoint.MAX_MEMBERS", 3)
    members = {"m/data.pkl": PICKLE, **{f"m/data/{index}": b"" for index in range(3)}}
    path = write_archive(tmp_path / "many.pt", members)
    with pytest.raises(CheckpointError, match="has 4 members"):
        Checkpoint(path)


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    text = tmp_path / "text.pt"
    text.write_text("not an archive")
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(b"PK\x03\x04" + b" " * 1000)
    for path, reason in (
        (tmp_path / "missing.pt", "there is no such file"),
        (tmp_path, "it is not a file"),
        (text, "not a zip archive as torch.save writes it"),
        (damaged, "damaged or cut archive; fetch or copy it again"),
    ):
        with pytest.raises(CheckpointError, match=reason) as error:
            Checkpoint(path)
        assert str(path) in str(error.value)


def test_every_cut_and_every_flipped_byte_is_noticed_or_harmless(archive: Path) -> None:
    """A damaged file is refused by name or read; nothing else ever happens."""
    whole = archive.read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole), 7)]
    for position in range(len(whole)):
        damaged.append(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
    refused = 0
    for data in damaged:
        archive.write_bytes(data)
        try:
            with Checkpoint(archive) as checkpoint:
                checkpoint.tensor(reference())
        except CheckpointError as error:
            refused += str(archive) in str(error)
    assert refused > len(damaged) // 2


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    """Many members that are the same bytes would let a small file fill the memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data.pkl", PICKLE)
        archive.writestr("m/data/0", bytes(10_000))
        original = archive.getinfo("m/data/0")
        for index in range(1, 50):
            twin = zipfile.ZipInfo(f"m/data/{index}")
            twin.header_offset, twin.CRC = original.header_offset, original.CRC
            twin.file_size = twin.compress_size = original.file_size
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    path = tmp_path / "overlap.pt"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="claim more bytes than the file has"):
        Checkpoint(path)
