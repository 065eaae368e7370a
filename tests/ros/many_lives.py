"""Takes a node through some and then more lives, and prints what there is after each part.

A process of its own (``python -m tests.ros.many_lives SOME MORE [MODEL]``), run by
test_node_lifecycle.py: threads and memory of other tests would blur the numbers. With the file of a
model, the network is real, with the smallest input; else it is a fake.
"""

from __future__ import annotations

import gc
import json
import queue
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from pose_node.msg import PersonPoseArray
from sensor_msgs.msg import Image

from pose_node.process_settings import tune_process
from pose_node.ros.loading import load_pipeline
from pose_node.ros.parameters import NodeParameters
from tests.ros.node_bench import Bench, FakePipeline, image

WEIGHTS = 20 << 20
"""Bytes of the fake network."""


def measure(alive: weakref.WeakSet[Any]) -> dict[str, int]:
    """Threads of Python and of the process, networks in memory, resident memory in MiB."""
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    return {
        "python threads": threading.active_count(),
        "threads": int(status["Threads"][0]),
        "networks": len(alive),
        "MiB": int(status["VmRSS"][0]) // 1024,
    }


def live(bench: Bench, number: int, annotated: queue.Queue[Any]) -> None:
    """One life, with one image."""
    bench.activate()
    large = image(number, width=1280, height=720, step=3840, data=bytes(1280 * 720 * 3))
    for topic in ("poses", "image_annotated"):
        bench.until(lambda topic=topic: bench.is_heard(topic))  # type: ignore[misc]
    assert bench.ask(large).header == large.header
    assert bench.get(annotated).header == large.header
    assert bench.transition("deactivate", "cleanup") == ["SUCCESS"] * 2


def main(some: int, more: int, model: str = "") -> None:
    """Prints the two measurements as JSON."""
    tune_process()
    rclpy.init(args=[])
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    def load(parameters: NodeParameters) -> Any:
        if model:
            pipeline: Any = load_pipeline(parameters)
            alive.add(pipeline.engine.network)
        else:
            pipeline = FakePipeline(parameters)
            pipeline.weights = np.ones(WEIGHTS, np.uint8)  # type: ignore[attr-defined]
            alive.add(pipeline)
        return pipeline

    real = {"model": model, "device": "cpu", "image_size": 32} if model else {}
    bench = Bench(rclpy, lambda: "", {"diagnostics_period": 0.1, **real}, load)
    bench.listen(PersonPoseArray, "poses", wait=False)
    annotated = bench.listen(Image, "image_annotated", wait=False)
    measured = []
    try:
        for number in range(some + more):
            live(bench, number, annotated)
            if number in (some - 1, some + more - 1):
                if model:  # the bench keeps the newest to look into it
                    bench.pipeline = None
                measured.append(measure(alive))
    finally:
        bench.close()  # else its thread would keep the process
    rclpy.try_shutdown()
    print(json.dumps(measured))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
