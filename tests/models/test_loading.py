"""Networks give the numbers of the programs whose files they are built from."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pose_node.errors import CheckpointError
from pose_node.models import PoseNetwork, load_network
from pose_node.models.native import save_network

PIXELS, SCORE = 5e-3, 1e-4  # largest allowed difference of coordinates and of scores

FIXTURES = [
    *("ul_yolov8_tiny_pose", "ul_yolo11_tiny_pose", "ul_yolo11_tiny_pose_fused"),
    "ul_yolo11_trainer_stripped",
]


def assert_decoded_equal(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare (B, A, 56) corner rows with the reference's (B, 56, A) centre rows."""
    rows = expected.transpose(0, 2, 1)
    centre, size = rows[..., :2], rows[..., 2:4]
    corners = np.concatenate((centre - size / 2, centre + size / 2), 2)
    np.testing.assert_allclose(found[..., :4], corners, rtol=0, atol=PIXELS)
    np.testing.assert_allclose(found[..., 4], rows[..., 4], rtol=0, atol=SCORE)
    found_points, points = (a[..., 5:].reshape(*a.shape[:2], 17, 3) for a in (found, rows))
    np.testing.assert_allclose(found_points[..., :2], points[..., :2], rtol=0, atol=PIXELS)
    np.testing.assert_allclose(found_points[..., 2], points[..., 2], rtol=0, atol=SCORE)


@torch.inference_mode()
def decode(network: PoseNetwork, batch: np.ndarray) -> np.ndarray:
    return network.decode(network(torch.from_numpy(batch))).numpy()


@torch.inference_mode()
def check_against(network: PoseNetwork, expected: Any, tags: dict[str, str]) -> None:
    """Compare raw maps and decoded rows; `tags` names the inputs: tag of the results -> input."""
    for tag, key in tags.items():
        batch = torch.from_numpy(expected[key])
        raw = network(batch)
        for index, part in enumerate(("boxes", "scores", "kpts")):
            if f"{tag}_raw_{part}" in expected:
                found = torch.cat([maps[index].flatten(2) for maps in raw], 2)
                np.testing.assert_allclose(found, expected[f"{tag}_raw_{part}"], atol=2e-4)
        assert_decoded_equal(network.decode(raw).numpy(), expected[f"{tag}_decoded"])


@pytest.mark.parametrize("name", FIXTURES)
def test_reference_numbers(shared: Path, name: str, tmp_path: Path) -> None:
    """Unfused, fused, and written to and read from the native format."""
    network = load_network(shared / "fixtures" / f"{name}.pt")
    expected = np.load(shared / "fixtures" / f"{name}.npz")
    tags = {tag: f"{tag}_input" for tag in ("sq", "rect") if f"{tag}_input" in expected}
    check_against(network, expected, tags)

    native = tmp_path / "model.safetensors"
    save_network(network, native)
    batch = expected["sq_input"]
    np.testing.assert_array_equal(decode(load_network(native), batch), decode(network, batch))

    network.fuse()
    assert_decoded_equal(decode(network, batch), expected["sq_decoded"])


def test_suppression_keeps_the_reference_people(shared: Path) -> None:
    from pose_node.inference.nms import non_maximum_suppression

    checked = 0
    for name in FIXTURES[:3]:
        network = load_network(shared / "fixtures" / f"{name}.pt")
        expected = np.load(shared / "fixtures" / f"{name}.npz")
        for tag, count in (("sq", 1), ("rect", 2)):
            decoded = decode(network, expected[f"{tag}_input"])
            for index in range(count):
                rows = decoded[index][decoded[index, :, 4] > 0.25]
                kept = non_maximum_suppression(
                    rows[:, :4],
                    rows[:, 4],
                    np.zeros(len(rows), np.int64),
                    iou_threshold=0.7,
                    max_kept=300,
                )
                reference = expected[f"{tag}_nms_{index}"]
                assert len(kept) == len(reference)
                np.testing.assert_allclose(rows[kept][:, :4], reference[:, :4], atol=PIXELS)
                np.testing.assert_allclose(rows[kept][:, 4], reference[:, 4], atol=SCORE)
                checked += len(kept)
    assert checked > 500


def test_the_official_network_gives_its_official_numbers(shared: Path, yolo11n_pose: Path) -> None:
    network = load_network(yolo11n_pose)
    expected = np.load(shared / "fixtures" / "real_yolo11n_pose_expected.npz")
    tags = {"sq128": "sq128_input", "rect": "rect_input"}
    check_against(network, expected, tags)
    check_against(network.fuse(), expected, tags)


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
        (state_dictionary, "bare state dictionary"),
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
    with pytest.raises(CheckpointError, match="levels"):
        load_network(path)


def test_the_pickle_of_the_tests_is_what_it_says() -> None:
    """`test_a_module_that_contains_itself_is_refused` writes protocol 2 by hand."""
    assert pickle.dumps({}, 2) == b"\x80\x02}q\x00."
