"""How long it takes from a new process to the first people.

    python benchmarks/startup.py [--backends torch openvino]

Each start is a fresh interpreter that imports `pose_node.pipeline`, loads the model and finds the
people of one 1280x720 image; exported files are in the cache, as after the first use. Backends take
turns.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from pose_node import PoseEngine
from pose_node.inference.backends import candidates

_PROCESS = """
import sys, time
started = time.perf_counter()
from pose_node.process_settings import tune_process
tune_process()
import pose_node.pipeline
import numpy as np
from pose_node import Frame, PoseEngine
imported = time.perf_counter()
engine = PoseEngine.load(sys.argv[1], device=sys.argv[2], backend=sys.argv[3])
pipeline = pose_node.pipeline.PosePipeline(engine)
loaded = time.perf_counter()
pipeline([Frame("", "", 1, np.full((720, 1280, 3), 114, np.uint8))])
print(imported - started, loaded - imported, time.perf_counter() - loaded)
"""


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="yolo11n-pose")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backends", nargs="+", help="all installed ones")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="write the result there")
    options = parser.parse_args()
    backends = options.backends or ["torch", *candidates(torch.device(options.device))]
    for backend in backends:  # exports what is not in the cache
        PoseEngine.load(options.model, device=options.device, backend=backend)
    seconds: dict[str, list[list[float]]] = {backend: [] for backend in backends}
    for _ in range(options.rounds):
        for backend in backends:
            command = [sys.executable, "-c", _PROCESS, options.model, options.device, backend]
            started = time.perf_counter()
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            whole = time.perf_counter() - started
            seconds[backend].append([whole, *map(float, printed.split())])
    columns = ("whole process", "import", "load", "first image")
    print(f"{options.model}, seconds from start to first people, {platform.machine()}\n")
    print(f"| backend | {' | '.join(columns)} |\n|---|---|---|---|---|")
    for backend, rows in seconds.items():
        print(f"| {backend} | {' | '.join(f'{value:.2f}' for value in np.median(rows, 0))} |")
    if options.json:
        content = {"columns": columns, "seconds": seconds, "settings": vars(options)}
        Path(options.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
