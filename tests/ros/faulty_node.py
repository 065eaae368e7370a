"""A process of the node with a network that finds the same everywhere, and fails by plan.

``python -m tests.ros.faulty_node --ros-args ...``. The grey value of an image says what happens to
it: see `FAULTS`. The variable FAULTY_LOADS names a file: while it is there, loading the network
raises what stands in it, or takes for ever if nothing does. FAULTY_SECONDS is how long it takes for
an image; FAULTY_PATIENCE is for how many seconds the node waits for a device that hangs. With
FAULTY_IMAGES=no all images are good.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Not from tests.conftest, which gives its process a ROS domain of its own.
from pose_node import COCO17, Frame, Poses
from pose_node.pipeline import Found
from pose_node.ros import health, node
from pose_node.ros.node_process import main
from pose_node.ros.parameters import NodeParameters

OUT_OF_MEMORY, LOST, BUG, HANGS = 101, 102, 103, 104
FAULTS: dict[int, Exception] = {
    OUT_OF_MEMORY: RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    LOST: RuntimeError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA"),
    BUG: ZeroDivisionError("integer division or modulo by zero"),
}


class FaultyEngine:
    """What the node reads and sets of an engine."""

    def __init__(self, parameters: NodeParameters) -> None:
        self.model_name = "faulty"
        self.device = "cuda:0"
        self.device_description = "a fake device"
        self.runs_batches = True
        self.backend = "none"
        self.skeleton = COCO17
        self.stage_times: dict[str, float] = {}

    def largest_reduction(self, width: int, height: int) -> int:
        return 2 if min(width, height) > 100 else 1

    def release_graphs(self) -> None:
        pass


class FaultyPipeline:
    """Finds two people in every image, or raises what its grey value says."""

    def __init__(self, parameters: NodeParameters) -> None:
        self.engine = FaultyEngine(parameters)
        self.stage_times = {"network": 0.001}
        self.first_id = self.next_id = 1
        self._fails = os.environ.get("FAULTY_IMAGES") != "no"
        self._seconds = float(os.environ.get("FAULTY_SECONDS", "0"))
        keypoints = np.ones((2, 17, 3), np.float32)
        boxes = np.array([[0, 0, 5, 5], [5, 5, 9, 9]], np.float32)
        self._people = Poses.from_arrays(boxes, np.array([0.9, 0.8], np.float32), keypoints)

    def __call__(self, frames: Sequence[Frame]) -> list[Found]:
        time.sleep(self._seconds)
        for frame in frames if self._fails else ():
            value = int(frame.image[0, 0, 0])
            if value == HANGS:
                threading.Event().wait()
            fault = FAULTS.get(value)
            if fault is not None:
                raise fault
        return [Found(frame, self._people, self._people) for frame in frames]

    def forget(self) -> None:
        pass


def load(parameters: NodeParameters) -> Any:
    """Make the pipeline, unless loading fails by plan."""
    with contextlib.suppress(KeyError, FileNotFoundError):
        reason = Path(os.environ["FAULTY_LOADS"]).read_text()
        if not reason:
            print("loading for ever", flush=True)
            threading.Event().wait()
        raise RuntimeError(reason)
    return FaultyPipeline(parameters)


if __name__ == "__main__":
    if patience := os.environ.get("FAULTY_PATIENCE"):
        health.HANGING = node.STOP_SECONDS = float(patience)
    sys.exit(main(load=load))
