"""OpenVINO files run like networks of our own. That they give the same people: test_export.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pose_node.errors import CheckpointError, DeviceError, PoseNodeError
from pose_node.inference.openvino_network import load_openvino

openvino = pytest.importorskip("openvino", reason="OpenVINO missing: pip install openvino")


@pytest.fixture
def converted(shared: Path, tmp_path: Path) -> Path:
    """A file of the program that trained the network, converted, without its metadata."""
    path = tmp_path / "model.xml"
    model = openvino.Core().read_model(shared / "fixtures/ul_yolo11_tiny_pose.onnx")
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def test_parity(shared: Path, converted: Path) -> None:
    network = load_openvino(converted, threads=1)
    assert (network.layout, network.strides) == ("ultralytics", (8, 16, 32))
    assert network.input_size == (128, 128)
    assert (network.num_classes, network.num_keypoints) == (1, 17)
    image = np.load(shared / "fixtures/ul_yolo11_tiny_pose.npz")["sq_input"]
    raw = network(torch.from_numpy(image))
    expected = np.load(shared / "fixtures/onnx_expected.npz")["ul_yolo11_tiny_pose__0"]
    np.testing.assert_allclose(raw[0].tensors[0], expected, rtol=0, atol=5e-3)
    assert network.decode(raw).shape == (1, 336, 56)
    with pytest.raises(CheckpointError, match=r"cannot run .* on an input of \(1, 3, 64, 64\)"):
        network(torch.zeros(1, 3, 64, 64))


def test_files_that_are_refused(converted: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no file .*none\.xml"):
        load_openvino(tmp_path / "none.xml")
    converted.write_text("<net/>")
    with pytest.raises(CheckpointError, match=f"cannot read {converted}: "):
        load_openvino(converted)
    converted.with_suffix(".bin").unlink()
    with pytest.raises(CheckpointError, match=r"there is no file .*model\.bin"):
        load_openvino(converted)


def test_only_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="device 'cuda:0' cannot be used for OpenVINO files"):
        load_openvino(tmp_path / "model.xml", device="cuda:0")


def test_package_missing(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(PoseNodeError, match=r"pip install 'pose-node\[openvino\]'"):
        load_openvino(tmp_path / "model.xml")
