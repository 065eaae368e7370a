"""Networks of every family give the numbers of the programs whose files they are built from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from pose_node.inference.nms import non_maximum_suppression
from pose_node.models import PoseNetwork, load_network
from pose_node.models.native import save_network

PIXELS, SCORE = 5e-3, 1e-4  # largest allowed difference of coordinates and of scores


class Reference(NamedTuple):
    """A checkpoint of random weights, and what its own program computed with it.

    Attributes:
        file: name of the checkpoint; the results lie beside it.
        family: the family that we are to see in it.
        layout: how the program lays its rows out: "xywh" (channels first, no objectness),
            "objectness" (rows of x, y, width, height, objectness, class, keypoints) or "logits"
            (the same, visibility as a logit).
        overlap: threshold of its suppression; that of scores is 0.25.
    """

    file: str
    family: str
    layout: str = "xywh"
    overlap: float = 0.7

    def __str__(self) -> str:
        return Path(self.file).stem


REFERENCES = (
    Reference("ul_yolov8_tiny_pose.pt", "yolov8"),
    Reference("ul_yolo11_tiny_pose.pt", "yolo11"),
    Reference("ul_yolo11_tiny_pose_fused.pt", "yolo11"),
    Reference("ul_yolo11_trainer_stripped.pt", "yolo11"),
    Reference("ul_yolo26_tiny_pose.pt", "yolo26"),
    Reference("ul_yolo26_tiny_pose_fused_o2m.pt", "yolo26"),
    Reference("y5_s6_tiny_pose.pt", "yolov5", "objectness", overlap=0.45),
    Reference("y5_s6_tiny_pose_slicefocus.pt", "yolov5", "objectness", overlap=0.45),
    Reference("y7_w6_tiny_pose.pt", "yolov7", "objectness", overlap=0.45),
    Reference("yx_tiny_human_pose.pth", "yolox", "logits", overlap=0.45),
)


@pytest.fixture(params=REFERENCES, ids=str)
def reference(request: pytest.FixtureRequest) -> Reference:
    chosen: Reference = request.param
    return chosen


@pytest.fixture
def fixtures(shared: Path) -> Path:
    return shared / "fixtures"


def results(fixtures: Path, file: str) -> Any:
    return np.load(fixtures / f"{Path(file).stem}.npz")


def logistic(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def our_rows(expected: np.ndarray, layout: str) -> np.ndarray:
    """Rows of the reference as (B, A, 56): corners, score, keypoints with scores in 0..1."""
    rows = expected.transpose(0, 2, 1) if layout == "xywh" else expected
    centre, size = rows[..., :2], rows[..., 2:4]
    if layout == "xywh":
        scores, keypoints = rows[..., 4:5], rows[..., 5:].copy()
    else:
        scores, keypoints = rows[..., 4:5] * rows[..., 5:6], rows[..., 6:].copy()
    if layout == "logits":
        keypoints[..., 2::3] = logistic(keypoints[..., 2::3])
    return np.concatenate((centre - size / 2, centre + size / 2, scores, keypoints), 2)


def assert_rows_equal(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare rows (..., 56)."""
    assert found.shape == expected.shape
    scores = [4, *range(7, 56, 3)]
    np.testing.assert_allclose(found[..., scores], expected[..., scores], rtol=0, atol=SCORE)
    places = np.setdiff1d(np.arange(56), scores)
    np.testing.assert_allclose(found[..., places], expected[..., places], rtol=0, atol=PIXELS)


@torch.inference_mode()
def decode(network: PoseNetwork, batch: np.ndarray) -> np.ndarray:
    return network.decode(network(torch.from_numpy(batch))).numpy()


def inputs(expected: Any) -> Iterator[str]:
    return (tag for tag in ("sq", "rect") if f"{tag}_input" in expected)


def test_decoded_rows(fixtures: Path, reference: Reference, tmp_path: Path) -> None:
    """Unfused, fused, and written to and read from the native format."""
    network = load_network(fixtures / reference.file)
    assert network.family == reference.family
    expected = results(fixtures, reference.file)
    native = tmp_path / "model.safetensors"
    save_network(network, native)
    for tag in inputs(expected):
        found = decode(network, expected[f"{tag}_input"])
        assert_rows_equal(found, our_rows(expected[f"{tag}_decoded"], reference.layout))
        again = decode(load_network(native), expected[f"{tag}_input"])
        np.testing.assert_array_equal(again, found)
    network.fuse()
    for tag in inputs(expected):
        found = decode(network, expected[f"{tag}_input"])
        assert_rows_equal(found, our_rows(expected[f"{tag}_decoded"], reference.layout))


def test_suppression_keeps_the_reference_people(fixtures: Path, reference: Reference) -> None:
    network = load_network(fixtures / reference.file)
    expected = results(fixtures, reference.file)
    for tag in inputs(expected):
        decoded = decode(network, expected[f"{tag}_input"])
        for index, rows in enumerate(decoded):
            people = expected.get(f"{tag}_nms_{index}")
            if people is None:
                continue
            rows = rows[rows[:, 4] > 0.25]
            kept = non_maximum_suppression(
                rows[:, :4],
                rows[:, 4],
                np.zeros(len(rows), np.int64),
                iou_threshold=reference.overlap,
                max_kept=300,
            )
            people = people.copy()
            if reference.layout == "logits":  # corners, objectness, class score, class, keypoints
                people[:, 4] *= people[:, 5]
                people = np.delete(people, (5, 6), 1)
                people[:, 7::3] = logistic(people[:, 7::3])
            else:  # corners, score, class, keypoints
                people = np.delete(people, 5, 1)
            assert_rows_equal(rows[kept], people)


@torch.inference_mode()
def test_raw_maps(fixtures: Path, reference: Reference) -> None:
    network = load_network(fixtures / reference.file)
    expected = results(fixtures, reference.file)
    compared = 0
    for tag in inputs(expected):
        raw = network(torch.from_numpy(expected[f"{tag}_input"]))
        if reference.layout == "objectness":  # for each level (B, anchors, H, W, 57)
            for level, (maps,) in enumerate(raw):
                cut = maps.unflatten(1, (3, 57)).permute(0, 1, 3, 4, 2)
                np.testing.assert_allclose(cut, expected[f"{tag}_raw_{level}"], atol=1e-4)
                compared += 1
        elif reference.layout == "logits":  # scores are no logits any more
            rows = [
                torch.cat((m[0], m[1].sigmoid(), m[2].sigmoid(), m[3]), 1).flatten(2) for m in raw
            ]
            found = torch.cat(rows, 2).transpose(1, 2)
            np.testing.assert_allclose(found, expected[f"{tag}_raw"], atol=1e-4)
            compared += 1
        else:
            prefix = "raw_one2many" if f"{tag}_raw_one2many_boxes" in expected else "raw"
            for index, part in enumerate(("boxes", "scores", "kpts")):
                if f"{tag}_{prefix}_{part}" not in expected:
                    continue
                found = torch.cat([maps[index].flatten(2) for maps in raw], 2)
                np.testing.assert_allclose(found, expected[f"{tag}_{prefix}_{part}"], atol=2e-4)
                compared += 1
    assert compared >= 2 or "trainer" in reference.file


@pytest.mark.parametrize("name", ["ul_yolo26_tiny_pose", "ul_yolo26_tiny_pose_fused_o2o"])
@pytest.mark.parametrize("fused", [False, True])
def test_the_end_to_end_branch(fixtures: Path, name: str, fused: bool) -> None:
    """The reference keeps the 300 best rows: x1 y1 x2 y2, score, class, keypoints."""
    network = load_network(fixtures / f"{name}.pt", end_to_end=True)
    assert network.end_to_end
    if fused:
        network.fuse()
    expected = results(fixtures, name)
    for tag in inputs(expected):
        for rows, best in zip(
            decode(network, expected[f"{tag}_input"]), expected[f"{tag}_e2e"], strict=True
        ):
            order = np.argsort(-rows[:, 4], kind="stable")[:300]
            assert_rows_equal(rows[order], np.delete(best, 5, 1))


def test_the_official_network_gives_its_official_numbers(shared: Path, yolo11n_pose: Path) -> None:
    network = load_network(yolo11n_pose)
    expected = np.load(shared / "fixtures" / "real_yolo11n_pose_expected.npz")
    for fused in (False, True):
        if fused:
            network.fuse()
        for tag, key in (("sq128", "sq128_input"), ("rect", "rect_input")):
            found = decode(network, expected[key])
            assert_rows_equal(found, our_rows(expected[f"{tag}_decoded"], "xywh"))
