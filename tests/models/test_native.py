"""The native file holds everything, is written whole or not at all, and is checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pose_node.errors import CheckpointError
from pose_node.models import PoseNetwork, load_network
from pose_node.models.native import assert_same_outputs, save_network


@pytest.fixture(scope="module")
def network(shared: Path) -> PoseNetwork:
    return load_network(shared / "fixtures/ul_yolo11_trainer_stripped.pt")


@pytest.fixture
def native(network: PoseNetwork, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_network(network, path)
    return path


def contents(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def test_weights_are_stored_without_loss_and_small(network: PoseNetwork, native: Path) -> None:
    weights, metadata = contents(native)
    convolution = "model.0.conv.weight"
    assert weights[convolution].dtype == torch.float16
    assert torch.equal(weights[convolution].float(), network.state_dict()[convolution])
    assert json.loads(metadata["description"])["family"] == "yolo11"
    again = load_network(native)
    assert again.description == network.description
    for name, tensor in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(again.state_dict()[name], tensor)


def test_weights_that_float16_cannot_hold_stay_float32(shared: Path, tmp_path: Path) -> None:
    changed = load_network(shared / "fixtures/ul_yolo11_trainer_stripped.pt")
    next(changed.parameters()).mul_(1.0001)
    save_network(changed, tmp_path / "model.safetensors")
    weights, _ = contents(tmp_path / "model.safetensors")
    assert weights["model.0.conv.weight"].dtype == torch.float32


def test_a_fused_network_is_refused(shared: Path, tmp_path: Path) -> None:
    fused = load_network(shared / "fixtures/ul_yolo11_trainer_stripped.pt").fuse()
    with pytest.raises(ValueError, match="save it before fuse"):
        save_network(fused, tmp_path / "model.safetensors")


def test_writing_fails_with_the_reason_and_leaves_nothing(
    network: PoseNetwork, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"ends in \.safetensors"):
        save_network(network, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"cannot write .*missing"):
        save_network(network, tmp_path / "missing" / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"pose_node": "99"}, "no pose_node description of version 1"),
        ({"description": "{"}, "cannot read"),
        ({"description": "[" * 500_000}, "recursion"),
        ({"description": '{"family": NaN}'}, "holds the number NaN"),
        ({"description": '{"family": -1e999}'}, "holds the number -1e999"),
        ({"description": '{"family": 1' + "0" * 5000 + "}"}, "holds the number 1000000"),
        ({"description": "[]"}, "expected a description"),
        ({"description": '{"family": "x", "class_names": [], "layers": []}'}, "not a pose head"),
        ({"description": '{"family": "x", "class_names": [], "layers": [1]}'}, "expected a layer"),
    ],
)
def test_a_wrong_header_is_refused(native: Path, change: dict[str, str], text: str) -> None:
    weights, metadata = contents(native)
    save_file(weights, native, {**metadata, **change})
    with pytest.raises(CheckpointError, match=text) as error:
        load_network(native)
    assert str(native) in str(error.value)


FLAT = {"kind": "Sequential", "parts": {str(index): {"kind": "SiLU"} for index in range(20)}}


def edited(description: Any, path: list[Any], value: Any) -> Any:
    target = description
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return description


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (["layers", 0, "inputs"], [5], "reads layers"),
        (["layers", 0, "inputs"], ["x"], "reads layers"),
        (["layers", 0, "block", "kind"], "System", "'System', which is unknown"),
        (["layers", 0, "block"], 7, "expected a module"),
        (["layers", 0, "block"], {"kind": "MaxPool2d"}, "lacks 'padding'|cannot be built"),
        (["layers", 10, "block"], {"kind": "Upsample"}, "lacks 'mode'"),
        (
            ["layers", 0, "block"],
            {
                "kind": "Sequential",
                "parts": {
                    str(i): {"kind": "Sequential", "parts": {str(j): FLAT for j in range(32)}}
                    for i in range(32)
                },
            },
            "more than 20000 modules",
        ),
        (["layers", 0, "block", "settings"], {"no": 1}, "cannot be built"),
        (
            ["layers", 0, "block", "parts", "conv", "settings", "out_channels"],
            10**9,
            "out_channels must be 1 to",
        ),
        (["layers", 0, "block", "parts", "conv", "settings", "padding"], 10**6, "pads by"),
        (["layers", 1, "block", "parts", "conv", "settings", "in_channels"], 5, "has shape"),
        (["layers", 1, "inputs"], [-1, 0], "do not fit together"),
        (["layers", 1, "inputs"], [0] * 9, "reads layers"),
        (
            ["layers", 0, "block", "parts", "act"],
            {"kind": "Upsample", "settings": {"mode": "nearest", "scale_factor": 2}},
            "Upsample within a block",
        ),
        (
            ["layers", 1, "block"],
            {"kind": "Sequential", "parts": {str(i): {"kind": "SiLU"} for i in range(33)}},
            "more than 32 parts",
        ),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(
    native: Path, path: list[Any], value: Any, text: str
) -> None:
    weights, metadata = contents(native)
    description = edited(json.loads(metadata["description"]), path, value)
    save_file(weights, native, {**metadata, "description": json.dumps(description)})
    with pytest.raises(CheckpointError, match=text):
        load_network(native)


def test_feature_maps_that_explode_are_refused(native: Path) -> None:
    weights, metadata = contents(native)
    description = json.loads(metadata["description"])
    enlarge = {"kind": "Upsample", "settings": {"mode": "nearest", "scale_factor": 2}}
    description["layers"][1:1] = [{"inputs": [-1], "block": enlarge}] * 12
    for name in list(weights):  # all layers but the first move up
        _, layer, rest = name.split(".", 2)
        if layer != "0":
            weights[f"model.{int(layer) + 12}.{rest}."] = weights.pop(name)
    weights = {name.removesuffix("."): tensor for name, tensor in weights.items()}
    save_file(weights, native, {**metadata, "description": json.dumps(description)})
    with pytest.raises(CheckpointError, match="an image of 64 x 64 would take more than"):
        load_network(native)
    description["layers"][1:1] = [{"inputs": [-1], "block": enlarge}] * 600
    save_file(weights, native, {**metadata, "description": json.dumps(description)})
    with pytest.raises(CheckpointError, match="more than 512 layers"):
        load_network(native)


def test_missing_and_misshapen_weights_are_refused(native: Path) -> None:
    weights, metadata = contents(native)
    name = "model.0.conv.weight"
    save_file({key: value for key, value in weights.items() if key != name}, native, metadata)
    with pytest.raises(CheckpointError, match=f"{name} are missing"):
        load_network(native)
    save_file({**weights, name: weights[name][:1].contiguous()}, native, metadata)
    with pytest.raises(CheckpointError, match=f"{name} has shape"):
        load_network(native)


def test_a_file_without_a_description_is_refused(native: Path) -> None:
    weights, metadata = contents(native)
    save_file(weights, native, {"pose_node": metadata["pose_node"]})
    with pytest.raises(CheckpointError, match="no pose_node description"):
        load_network(native)


def test_a_loaded_network_does_not_depend_on_its_file(native: Path) -> None:
    loaded = load_network(native)
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    with native.open("r+b") as file:  # as a copy over it would
        file.seek(-1000, 2)
        file.write(b"\xff" * 1000)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_types_that_are_never_written_are_refused(native: Path) -> None:
    """One byte could become four."""
    weights, metadata = contents(native)
    name = "model.0.conv.weight"
    for dtype in (torch.uint8, torch.bool, torch.float8_e4m3fn):
        save_file({**weights, name: torch.zeros(3).to(dtype)}, native, metadata)
        with pytest.raises(CheckpointError, match=f"'{name}' is of type .*, expected F64, F32"):
            load_network(native)


def with_header(native: Path, length: int) -> Path:
    native.write_bytes(length.to_bytes(8, "little") + native.read_bytes()[8:])
    return native


def test_damage_is_refused(native: Path, tmp_path: Path) -> None:
    whole = native.read_bytes()
    for length in (0, 7, 8, 1000):
        native.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="it is damaged: it is shorter than its header"):
            load_network(native)
    native.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match="it is damaged"):
        load_network(native)
    with pytest.raises(CheckpointError, match="it is damaged: it is shorter than its header"):
        load_network(with_header(native, 1 << 63))
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    with pytest.raises(CheckpointError, match="it is not a file"):
        load_network(folder)
    with pytest.raises(CheckpointError, match=r"[Nn]ame too long"):
        load_network(tmp_path / ("n" * 300 + ".safetensors"))


def test_the_error_does_not_quote_a_whole_header(native: Path) -> None:
    header = json.dumps({"__metadata__": "x" * 10_000}).encode()
    native.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match="it is damaged") as error:
        load_network(native)
    assert len(str(error.value)) < 1000


def test_too_much_is_refused_unread(native: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pose_node.models.native.MAX_HEADER_BYTES", 1000)
    with pytest.raises(
        CheckpointError, match=r"its header has [0-9]+ bytes, expected at most 1000"
    ):
        load_network(native)
    monkeypatch.setattr("pose_node.models.native.MAX_FILE_BYTES", 2000)
    with pytest.raises(CheckpointError, match=r"it has [0-9]+ bytes, expected at most 2000"):
        load_network(native)


def test_networks_that_differ_are_told_apart(shared: Path) -> None:
    network, other = (load_network(shared / "fixtures/ul_yolov8_tiny_pose.pt") for _ in range(2))
    assert_same_outputs(network, other)
    other.state_dict()["model.0.conv.weight"][0, 0, 0, 0] += 0.5
    with pytest.raises(CheckpointError, match="differs from what was read"):
        assert_same_outputs(network, other)


def test_a_native_file_records_its_activations(shared: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    source = shared / "fixtures/yx_tiny_human_pose.pth"
    save_network(load_network(source, activation="ReLU"), path)
    kinds = {type(module).__name__ for module in load_network(path).modules()}
    assert "ReLU" in kinds
    assert "SiLU" not in kinds
    for file in (path, shared / "fixtures/ul_yolov8_tiny_pose.pt"):
        with pytest.raises(CheckpointError, match="records its activations"):
            load_network(file, activation="ReLU")
    with pytest.raises(ValueError, match="'SiLU' or 'ReLU', got 'GELU'"):
        load_network(source, activation="GELU")
