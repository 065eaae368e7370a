"""Archives are checked before anything of them is used."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pose_node.errors import CheckpointError
from pose_node.models.checkpoint import MAX_SHARING, MAX_WIDENING, Checkpoint
from pose_node.models.pickle_machine import Record, StorageReference, TensorReference

REPOSITORY = Path(__file__).resolve().parents[2]


def write_archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


PICKLE = pickle.dumps({}, 2)


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
        "double": torch.tensor([0.1, 1e300, torch.nan], dtype=torch.float64),
        "number": torch.tensor(7.0),
        "truths": torch.tensor([[True], [False]]),
    }
    torch.save(state, path)
    with Checkpoint(path) as checkpoint:
        for name, expected in state.items():
            found = checkpoint.tensor(checkpoint.content[name])
            wanted = expected.float() if expected.is_floating_point() else expected
            assert found.dtype == wanted.dtype
            assert found.is_contiguous()
            assert torch.allclose(found, wanted, rtol=0, atol=0, equal_nan=True)


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
        reference(shape=(2, 2), strides=(1, 1)),
        reference(shape=(2, 3), strides=(2, 1)),
        reference(shape=(2,)),
        reference(numel=-1),
        reference(numel=2**70),
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


@pytest.mark.parametrize(
    ("used", "times"),
    [
        # As many numbers as memory is granted: twice the file.
        (reference(), MAX_WIDENING),
        # One number of the storage: the file would be read over and over.
        (reference(shape=(), strides=()), MAX_SHARING),
    ],
)
def test_one_storage_used_over_and_over_is_refused(
    archive: Path, used: TensorReference, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pose_node.models.checkpoint.ALLOWANCE_BYTES", 0)
    count = archive.stat().st_size * times // 24
    with Checkpoint(archive) as checkpoint:
        for _ in range(count):
            checkpoint.tensor(used)
        with pytest.raises(CheckpointError, match="used many times over"):
            checkpoint.tensor(used)


def test_any_byte_but_zero_is_true(tmp_path: Path) -> None:
    """A bool that is neither 0 nor 1 would be undefined further on."""
    members = {"m/data.pkl": PICKLE, "m/data/0": bytes([0, 1, 2, 255])}
    whole = TensorReference(StorageReference("bool", "0", 4), 0, (4,), (1,))
    with Checkpoint(write_archive(tmp_path / "m.pt", members)) as checkpoint:
        tensor = checkpoint.tensor(whole)
    assert tensor.dtype == torch.bool
    assert tensor.tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"m/data.pkl": PICKLE, "n/data.pkl": PICKLE}, "one member <name>/data.pkl .* found 2"),
        ({"m/version": b"3"}, "one member <name>/data.pkl .* found 0"),
        ({"a/b/data.pkl": PICKLE}, "one member <name>/data.pkl"),
        ({"m/data.pkl": PICKLE, "m/byteorder": b"big"}, "not little-endian"),
        ({"m/data.pkl": PICKLE, "m/byteorder": b"littlest"}, "has 8 bytes, expected at most 6"),
        ({"m/data.pkl": PICKLE, "m/constants.pkl": PICKLE}, "it is a TorchScript program"),
        ({"m/data.pkl": b"cos\nsystem\n."}, r"refused its pickle: it names 'os\.system'"),
        ({"m/data.pkl": b"x" * 5_000_000}, "'m/data.pkl' has 5000000 bytes"),
        ({"m/data.pkl": PICKLE, "../evil": b""}, "member outside itself"),
    ],
)
def test_archives_that_torch_never_writes_are_refused(
    tmp_path: Path, members: dict[str, bytes], text: str
) -> None:
    path = write_archive(tmp_path / "model.pt", members)
    with pytest.raises(CheckpointError, match=text) as error:
        Checkpoint(path)
    assert str(path) in str(error.value)


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    text = tmp_path / "text.pt"
    text.write_text("not an archive")
    for path, reason in (
        (tmp_path / "missing.pt", "there is no such file"),
        (tmp_path, "it is not a file"),
        (tmp_path / ("n" * 300), "[Nn]ame too long"),
        (text, "not a zip archive as torch.save writes it"),
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


FIXTURES = [
    *("ul_yolov8_tiny_pose.pt", "ul_yolo11_tiny_pose.pt", "ul_yolo11_tiny_pose_fused.pt"),
    *("ul_yolo11_trainer_stripped.pt", "ul_yolo26_tiny_pose.pt"),
    *("ul_yolo26_tiny_pose_fused_o2m.pt", "ul_yolo26_tiny_pose_fused_o2o.pt"),
    *("y5_s6_tiny_pose.pt", "y5_s6_tiny_pose_slicefocus.pt", "y7_w6_tiny_pose.pt"),
    "yx_tiny_human_pose.pth",
]


def references(value: Any) -> Iterator[TensorReference]:
    """Every tensor of what a pickle describes."""
    if isinstance(value, TensorReference):
        yield value
    elif isinstance(value, Record):
        yield from references(value.attributes)
    elif isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from references(part)


@pytest.mark.parametrize("name", FIXTURES)
def test_every_number_of_every_family_is_read(shared: Path, name: str) -> None:
    path = shared / "fixtures" / name
    with zipfile.ZipFile(path) as archive, Checkpoint(path) as checkpoint:
        stored = {n.rpartition("/")[2]: n for n in archive.namelist() if "/data/" in n}
        for wanted in references(checkpoint.content):
            numbers = np.frombuffer(archive.read(stored[wanted.storage.key]), wanted.storage.dtype)
            assert len(numbers) == wanted.storage.numel
            steps = [stride * numbers.itemsize for stride in wanted.strides]
            view = np.lib.stride_tricks.as_strided(numbers[wanted.offset :], wanted.shape, steps)
            assert np.array_equal(checkpoint.tensor(wanted).numpy(), view)
        used = {wanted.storage.key for wanted in references(checkpoint.content)}
        assert used == stored.keys()


def test_bare_weights_are_what_torch_reads(shared: Path) -> None:
    path = shared / "fixtures/yx_tiny_human_pose.pth"
    expected = torch.load(path, weights_only=True)["model"]
    with Checkpoint(path) as checkpoint:
        model = checkpoint.content["model"]
        assert list(model) == list(expected)
        for name, tensor in expected.items():
            assert torch.equal(checkpoint.tensor(model[name]), tensor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_memory_stays_near_the_size_of_the_file(tmp_path: Path, dtype: torch.dtype) -> None:
    """Everything read, in a process of its own: all weights as float32, and what describes them."""
    path = tmp_path / "large.pt"
    torch.save({f"layer.{n}.weight": torch.zeros(500, 500, dtype=dtype) for n in range(60)}, path)
    command = [sys.executable, "benchmarks/load.py", "--measure", "reader", str(path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    (used,) = json.loads(done.stdout)
    numbers = 60 * 500 * 500 * 4
    assert 0.9 * numbers < used < 2.5 * path.stat().st_size
