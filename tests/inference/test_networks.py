"""From a file to a network on a device, whatever the file is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pose_node import PoseEngine
from pose_node.errors import CheckpointError
from pose_node.inference.networks import prepare_network
from pose_node.models import PoseNetwork

CPU = torch.device("cpu")


def test_checkpoints_are_fused(shared: Path) -> None:
    network = prepare_network(shared / "fixtures/y7_w6_tiny_pose.pt", device=CPU)
    assert isinstance(network, PoseNetwork)
    assert network.fused


def test_exported_networks(shared: Path) -> None:
    network = prepare_network(shared / "fixtures/ul_yolo26_tiny_pose_e2e.onnx", device=CPU)
    assert not isinstance(network, torch.nn.Module)
    assert network.end_to_end
    assert network.input_size == (128, 128)


def test_what_does_not_go_with_an_exported_network(shared: Path) -> None:
    path = shared / "fixtures/ul_yolo26_tiny_pose_e2e.onnx"
    with pytest.raises(
        ValueError, match=r"half does not go with ul_yolo26_tiny_pose_e2e\.onnx, whose"
    ):
        prepare_network(path, device=CPU, half=True)
    with pytest.raises(CheckpointError, match="end_to_end must be True or left out"):
        prepare_network(path, device=CPU, end_to_end=False)


def test_a_layout_is_for_exported_networks(shared: Path) -> None:
    with pytest.raises(ValueError, match=r"ul_yolov8_tiny_pose\.pt is none"):
        PoseEngine.load(shared / "fixtures/ul_yolov8_tiny_pose.pt", onnx_layout="decoded")


@pytest.mark.parametrize(
    "name",
    [
        *("y5_s6_tiny_pose.pt", "y7_w6_tiny_pose.pt", "yx_tiny_human_pose.pth"),
        *("ul_yolov8_tiny_pose.pt", "ul_yolo11_tiny_pose.pt", "ul_yolo26_tiny_pose.pt"),
    ],
)
def test_the_engine_runs_every_family(shared: Path, name: str) -> None:
    """Recorded and not, the people are the same; a larger network would take too long here."""
    engine = PoseEngine.load(shared / "fixtures" / name, image_size=192, score_threshold=0.01)
    noise = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
    results = [engine([noise])[0] for _ in range(5)]  # recorded from the fourth on
    assert len(results[0]) > 0
    assert engine._recorded is not None
    assert engine._recorded.why_not is None
    np.testing.assert_allclose(results[-1].scores, results[0].scores, atol=1e-5)
    np.testing.assert_allclose(results[-1].keypoints, results[0].keypoints, rtol=1e-4, atol=0.05)


def test_end_to_end_by_choice(shared: Path) -> None:
    path = shared / "fixtures/ul_yolo26_tiny_pose.pt"
    assert not PoseEngine.load(path).network.end_to_end
    assert PoseEngine.load(path, end_to_end=True).network.end_to_end
    with pytest.raises(CheckpointError, match="no branch that needs no suppression"):
        PoseEngine.load(shared / "fixtures/ul_yolo11_tiny_pose.pt", end_to_end=True)
