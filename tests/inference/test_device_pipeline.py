"""The work of a GPU has static shapes, stays on the device and asks nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pose_node.inference.device_pipeline import (
    HEADER,
    MAX_PEOPLE,
    DevicePipeline,
    LiveSettings,
    image_bytes,
)
from pose_node.inference.letterbox import Letterbox
from pose_node.inference.networks import prepare_network

META = torch.device("meta")  # tensors of it have shapes, but no values: nothing can be asked
FAMILIES = [
    *("y5_s6_tiny_pose.pt", "y7_w6_tiny_pose.pt", "yx_tiny_human_pose.pth"),
    *("ul_yolov8_tiny_pose.pt", "ul_yolo11_tiny_pose.pt", "ul_yolo26_tiny_pose_fused_o2o.pt"),
]


class Watch(TorchDispatchMode):
    """Remembers operators that read or write anything that is not on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = 0
        self.elsewhere: list[str] = []

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operator(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        if any(tensor.device != META for tensor in tensors):
            self.elsewhere.append(str(operator))
        self.operators += 1
        return result


def fit(height: int, width: int) -> Letterbox:
    return Letterbox.fit(height, width, image_size=192, stride=64)


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_everything_happens_on_the_device(shared: Path, name: str) -> None:
    network: Any = prepare_network(shared / "fixtures" / name, device=torch.device("cpu"))
    network.to(META, torch.float16)
    settings = LiveSettings(network.num_classes, META)
    settings.set(0.3, 0.65, None)
    boxes = [fit(120, 160), fit(120, 160), fit(240, 320)]
    pixels = torch.zeros(sum(map(image_bytes, boxes)), dtype=torch.uint8, device=META)
    shared: dict[tuple[int, int], torch.Tensor] = {}
    kind: Any = {"settings": settings, "dtype": torch.float16}
    pipeline = DevicePipeline(network, boxes, pixels=pixels, shared_rows=shared, **kind)
    with Watch() as watch:
        pipeline()
    assert watch.elsewhere == []
    assert watch.operators > 300
    assert pipeline.draw().is_contiguous(memory_format=torch.channels_last)
    assert pipeline.rows.dtype == torch.float32
    assert pipeline.people.shape == (3, HEADER + MAX_PEOPLE * (5 + 3 * network.num_keypoints))
    fewer = DevicePipeline(network, boxes[:2], pixels=pixels, shared_rows=shared, **kind)
    fewer()
    assert len(shared) == 1  # memory of the largest batch
    assert fewer.rows.shape == (2, *pipeline.rows.shape[1:])


def test_settings_are_written_where_graphs_read_them() -> None:
    settings = LiveSettings(3, torch.device("cpu"))
    thresholds, wanted = (settings.score_threshold, settings.iou_threshold), settings.wanted
    settings.set(0.25, 0.5, (0, 2))
    assert [float(value) for value in thresholds] == [0.25, 0.5]
    assert wanted.tolist() == [True, False, True]
    settings.set(0.75, 1.0, None)
    assert [float(value) for value in thresholds] == [0.75, 1.0]
    assert wanted.tolist() == [True, True, True]


def test_an_image_has_three_bytes_a_pixel() -> None:
    assert image_bytes(fit(20, 30)) == 1800
