"""What the settings of `pose_node.process_settings` and the recorded graph gain, one at a time.

    python benchmarks/process_settings.py

Every measurement is a process of its own that runs the engine on one 1280x720 image: alone, and
beside another process that keeps one processor busy. Variants take turns; medians of the rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

CALLS = 30
ROUNDS = 3

VARIANTS: dict[str, dict[str, Any]] = {
    "all": {},
    "without tuned malloc": {"malloc": False},
    "without short waiting": {"spin": False},
    "without recorded graph": {"recorded": False},
    "loaded by another thread": {"own_thread": False},
    "none of them": {"malloc": False, "spin": False, "recorded": False, "own_thread": False},
}


def main() -> int:
    """Run all variants and print a table."""
    if len(sys.argv) > 1:
        _measure(**json.loads(sys.argv[1]))
        return 0
    print(f"{'ms an image':28}{'alone p50':>11}{'p95':>8}{'beside p50':>12}{'p95':>9}")
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in VARIANTS}
    for _ in range(ROUNDS):
        for name, settings in VARIANTS.items():
            rows[name].append((*_run(settings), *_run_beside_another(settings)))
    for name, measured in rows.items():
        alone, alone95, beside, beside95 = map(statistics.median, zip(*measured, strict=True))
        print(f"{name:28}{alone:11.1f}{alone95:8.1f}{beside:12.1f}{beside95:9.1f}")
    return 0


def _run_beside_another(settings: dict[str, Any]) -> tuple[float, float]:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        return _run(settings)
    finally:
        busy.kill()
        busy.wait()


def _run(settings: dict[str, Any]) -> tuple[float, float]:
    """p50 and p95 in milliseconds, from a process of its own."""
    output = subprocess.run(
        [sys.executable, __file__, json.dumps(settings)], check=True, capture_output=True, text=True
    ).stdout
    p50, p95 = json.loads(output)
    return float(p50), float(p95)


def _measure(
    malloc: bool = True, spin: bool = True, recorded: bool = True, own_thread: bool = True
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from pose_node.process_settings import tune_process

    environment: dict[str, str] = dict(os.environ)
    if not malloc:
        environment["MALLOC_TOP_PAD_"] = "0"  # as if the user had chosen
    tune_process(environment)
    if spin:
        os.environ["GOMP_SPINCOUNT"] = environment["GOMP_SPINCOUNT"]

    import numpy as np

    from pose_node import PoseEngine

    def load() -> PoseEngine:
        engine = PoseEngine.load("yolo11n-pose", device="cpu")
        if not recorded:
            engine._recorded = None
        return engine

    image = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)

    def times(engine: PoseEngine) -> list[float]:
        engine.warm_up()
        seconds = []
        for _ in range(CALLS):
            started = time.perf_counter()
            engine([image])
            seconds.append(time.perf_counter() - started)
        return seconds

    with ThreadPoolExecutor(1) as thread:
        engine = thread.submit(load).result() if own_thread else load()
        if not own_thread:
            engine.warm_up()
        seconds = thread.submit(times, engine).result()
    print(json.dumps([float(value) * 1e3 for value in np.percentile(seconds, (50, 95))]))


if __name__ == "__main__":
    sys.exit(main())
