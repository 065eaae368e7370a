"""From files to networks, and what is refused. The numbers: test_parity.py."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pose_node.errors import CheckpointError
from pose_node.models import load_network


def test_attributes(shared: Path) -> None:
    network = load_network(shared / "fixtures/ul_yolo11_tiny_pose.pt")
    assert network.family == "yolo11"
    assert network.strides == (8, 16, 32)
    assert network.stride == 32
    assert network.num_keypoints == 17
    assert network.keypoint_dimensions == 3
    assert network.num_classes == 1
    assert network.description.class_names == ("person",)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert load_network(shared / "fixtures/ul_yolov8_tiny_pose.pt").family == "yolov8"


def test_foreign_checkpoints_are_refused(shared: Path, tmp_path: Path) -> None:
    state_dictionary = tmp_path / "state.pt"
    torch.save({"model": {"weight": torch.zeros(3)}}, state_dictionary)
    nothing = tmp_path / "nothing.pt"
    torch.save([1, 2, 3], nothing)
    for path, text in (
        (state_dictionary, "bare weights, which do not say"),
        (nothing, "it holds no network"),
        (shared / "data/videos/squats.mp4", "not a zip archive"),
        (tmp_path / "model.safetensors", "there is no such file"),
    ):
        with pytest.raises(CheckpointError, match=text) as error:
            load_network(path)
        assert str(path) in str(error.value)


def rewrite(source: Path, target: Path, change: Any) -> Path:
    """Copy an archive, changing its pickle."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data) if name.endswith("/data.pkl") else data)
    return target


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (b"C3k2\n", b"C9k9\n", "C9k9', which is unknown"),
        (b"nn.tasks\nPoseModel", b"nn.tasks\nSegmModel", "SegmModel', which is no pose network"),
        (b"num_heads", b"num_hands", "lacks num_heads"),
        (b"nearest", b"bicubic", "double its input by nearest"),
        (b"out_channels", b"out_chonnels", "lacks out_channels"),
        (b"conv\nDWConv", b"conv\nConcat", "Concat within a block"),
    ],
)
def test_a_tree_that_makes_no_sense_is_refused(
    shared: Path, tmp_path: Path, old: bytes, new: bytes, text: str
) -> None:
    source = shared / "fixtures/ul_yolo11_tiny_pose.pt"
    path = rewrite(source, tmp_path / "model.pt", lambda data: data.replace(old, new))
    with pytest.raises(CheckpointError, match=text) as error:
        load_network(path)
    assert str(path) in str(error.value)


def test_weights_that_are_no_numbers_are_refused(shared: Path, tmp_path: Path) -> None:
    source, path = shared / "fixtures/ul_yolo11_tiny_pose.pt", tmp_path / "model.pt"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("/data/0"):
                data = b"\xff" * len(data)
            new.writestr(name, data)
    with pytest.raises(CheckpointError, match="not finite"):
        load_network(path)


def test_a_module_that_contains_itself_is_refused(tmp_path: Path) -> None:
    """A cyclic tree would be walked for ever."""
    name = b"cultralytics.nn.tasks\nPoseModel\n)\x81q\x01"
    layers = b"ctorch.nn.modules.container\nSequential\n)\x81q\x02}X\x08\x00\x00\x00_modules"
    cycle = layers + b"}X\x01\x00\x00\x000h\x02ssb"  # module 0 of the list is the list
    state = b"}X\x08\x00\x00\x00_modules}X\x05\x00\x00\x00model" + cycle + b"ssb"
    data = b"\x80\x02}X\x05\x00\x00\x00model" + name + state + b"s."
    path = tmp_path / "cycle.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cycle/data.pkl", data)
    with pytest.raises(CheckpointError, match="contains itself"):
        load_network(path)


def test_the_pickle_of_the_tests_is_what_it_says() -> None:
    """`test_a_module_that_contains_itself_is_refused` writes protocol 2 by hand."""
    assert pickle.dumps({}, 2) == b"\x80\x02}q\x00."
