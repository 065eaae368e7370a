"""A short run of scripts/fuzz: damaged files give a network or the one error, in little memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pose_node.errors import CheckpointError
from pose_node.models import load_network
from pose_node.models.checkpoint import Checkpoint
from tests.models.checkpoint_maker import tiny_checkpoint
from tests.models.fuzz import Targets, references


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Targets:
    return Targets(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize(
    ("target", "count"),
    [
        ("pickle", 4000),
        ("archive", 1000),
        ("checkpoint", 100),
        ("network", 40),
        ("safetensors", 40),
    ],
)
def test_damaged_files_are_read_or_refused(targets: Targets, target: str, count: int) -> None:
    """`Targets` lets through the errors that are in order, and nothing else."""
    before = targets.accepted
    for number in range(count):
        getattr(targets, target)(random.Random(f"{target} {number}"))
    # Damage that all of it would refuse at the door finds nothing.
    assert before < targets.accepted < before + count


def test_cuts_at_every_boundary_and_flips_all_over_the_directory(tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt"
    whole = tiny_checkpoint()
    directory = whole.index(b"PK\x01\x02")
    cuts = [whole[: position + shift] for position in _headers(whole) for shift in (0, 30)]
    flips = [
        whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        for place in (*range(0, 60), *range(directory, len(whole), 19))
    ]
    refused = 0
    for data in (*cuts, *flips):
        path.write_bytes(data)
        try:
            with Checkpoint(path) as checkpoint:
                for reference in references(checkpoint.content):
                    checkpoint.tensor(reference)
        except CheckpointError as error:
            refused += str(path) in str(error)
    assert refused >= len(cuts) + len(flips) // 2  # the rest are dates, and suchlike


def _headers(data: bytes) -> list[int]:
    found, position = [], data.find(b"PK")
    while position >= 0:
        found.append(position)
        position = data.find(b"PK", position + 1)
    return found


def test_the_file_that_is_damaged_here_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt"
    path.write_bytes(tiny_checkpoint())
    assert load_network(path).num_keypoints == 2
