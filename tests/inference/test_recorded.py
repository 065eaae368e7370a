"""A recorded graph gives the same numbers, only for shapes that come again, within bounds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pose_node.inference.recorded import MAX_GRAPHS, REPETITIONS, RecordedNetwork
from pose_node.models import PoseNetwork, load_network


@pytest.fixture(scope="module")
def network(shared: Path) -> PoseNetwork:
    network = load_network(shared / "fixtures/ul_yolo11_tiny_pose.pt").fuse()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def batch(height: int, width: int, count: int = 1) -> torch.Tensor:
    pixels = torch.rand(count, height, width, 3)
    return pixels.permute(0, 3, 1, 2)


@torch.inference_mode()
def test_recorded_numbers_are_the_same(network: PoseNetwork) -> None:
    recorded = RecordedNetwork(network)
    for count, size in ((1, (64, 96)), (2, (96, 64))):
        for _ in range(REPETITIONS + 3):
            images = batch(*size, count)
            expected = network.decode(network(images))
            torch.testing.assert_close(recorded(images), expected, rtol=1e-5, atol=1e-3)
    assert recorded.why_not is None
    assert len(recorded._graphs) == 2


@torch.inference_mode()
def test_only_familiar_shapes_are_recorded_and_not_too_many(network: PoseNetwork) -> None:
    recorded = RecordedNetwork(network)
    for step in range(MAX_GRAPHS + 2):
        for _ in range(REPETITIONS - 1):
            recorded(batch(32, 32 * (step + 1)))
    assert len(recorded._graphs) == 0
    for step in range(MAX_GRAPHS + 2):
        recorded(batch(32, 32 * (step + 1)))
    assert len(recorded._graphs) == MAX_GRAPHS
    assert (1, 3, 32, 32) in recorded._graphs


@torch.inference_mode()
def test_where_recording_fails_the_network_still_runs(
    network: PoseNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("not today")

    monkeypatch.setattr(torch.jit, "_get_trace_graph", fail)
    recorded = RecordedNetwork(network)
    images = batch(64, 64)
    for _ in range(REPETITIONS + 1):
        torch.testing.assert_close(recorded(images), network.decode(network(images)))
    assert recorded.why_not is not None
    assert "not today" in recorded.why_not


LIVES = """
import gc, torch
from pose_node.inference.recorded import REPETITIONS, RecordedNetwork

class Wide(torch.nn.Linear):  # 16 MiB
    def decode(self, raw):
        return raw

def resident():
    with open("/proc/self/status") as status:
        return int(next(line.split()[1] for line in status if line.startswith("VmRSS"))) / 1024

@torch.inference_mode()
def live():
    recorded = RecordedNetwork(Wide(2048, 2048).eval())
    for _ in range(REPETITIONS + 3):
        recorded(torch.rand(1, 3, 2, 2048))
    assert len(recorded._graphs) == 1, recorded.why_not

for life in range(20):
    live()
    gc.collect()
    if life == 4:
        before = resident()
print(resident() - before)
"""


def test_graphs_are_freed_with_their_network() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIVES], capture_output=True, text=True, check=True, timeout=120
    )
    assert float(ended.stdout) < 60, "MiB more after fifteen networks of 16 MiB"
