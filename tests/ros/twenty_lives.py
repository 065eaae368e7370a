"""Takes a node through 5 and then 20 more lives, and prints what there is after each part.

A process of its own (``python -m tests.ros.twenty_lives``), run by test_node_lifecycle.py: threads
and memory of other tests would blur the numbers.
"""

from __future__ import annotations

import gc
import json
import threading
import weakref
from pathlib import Path

import numpy as np
import rclpy
from sensor_msgs.msg import Image

from pose_node.process_settings import tune_process
from pose_node.ros.parameters import NodeParameters
from tests.ros.node_bench import Bench, FakePipeline, image

WEIGHTS = 20 << 20
"""Bytes of the fake network."""


def measure(alive: weakref.WeakSet[FakePipeline]) -> dict[str, int]:
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


def main() -> None:
    """Prints the two measurements as JSON."""
    tune_process()
    rclpy.init(args=[])
    alive: weakref.WeakSet[FakePipeline] = weakref.WeakSet()

    def load(parameters: NodeParameters) -> FakePipeline:
        pipeline = FakePipeline(parameters)
        pipeline.weights = np.ones(WEIGHTS, np.uint8)  # type: ignore[attr-defined]
        alive.add(pipeline)
        return pipeline

    bench = Bench(rclpy, lambda: "", {"diagnostics_period": 0.1}, load)
    large = image(width=1280, height=720, step=3840, data=bytes(1280 * 720 * 3))
    annotated = bench.listen(Image, "image_annotated", wait=False)
    measured = []
    for number in range(25):
        bench.activate()
        large.header = image(number).header
        bench.until(lambda: bench.node.count_subscribers("image_annotated") > 0)
        assert bench.ask(large).header == large.header
        assert bench.get(annotated).header == large.header
        assert bench.transition("deactivate", "cleanup") == ["SUCCESS"] * 2
        if number in (4, 24):
            measured.append(measure(alive))
    bench.close()
    rclpy.try_shutdown()
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
