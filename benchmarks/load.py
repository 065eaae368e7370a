"""How long it takes to load model files and how much memory, each time in a process of its own.

    python benchmarks/load.py [FILE ...] [--rounds 5]

Without files, the official yolo11n-pose. Seconds are from after the imports to the network: the
first load of a process, and the one after it. Memory is what the peak of the process grows by, in
sizes of the file: for the reader alone, with all that the file describes and every weight of it in
memory at the same time, and for the network. The libraries are not counted, nor what they set up
once, since a tiny file is read before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pose_node.models.fetch import cached_model_path


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, default=[cached_model_path("yolo11n-pose")])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--measure", choices=("seconds", "reader", "network"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(_measure(options.measure, options.files[0])))
        return 0
    print(f"{'file':34}{'MB':>7}{'first s':>9}{'CPU s':>7}{'next s':>8}{'reader':>8}{'network':>9}")
    for path in options.files:
        rows = [_run("seconds", path) for _ in range(options.rounds)]
        times = [statistics.median(column) for column in zip(*rows, strict=True)]
        memory = [min(_run(what, path)[0] for _ in range(3)) for what in ("reader", "network")]
        size = path.stat().st_size
        print(
            f"{path.name:34}{size / 1e6:7.1f}{times[0]:9.3f}{times[1]:7.3f}{times[2]:8.3f}"
            + "".join(f"{used / size:>8.2f}x" for used in memory)
        )
    return 0


def _run(what: str, path: Path) -> list[float]:
    command = [sys.executable, __file__, "--measure", what, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


def _measure(what: str, path: Path) -> list[float]:
    from pose_node.models import load_network
    from pose_node.models.checkpoint import Checkpoint

    if what == "seconds":
        started, processor = time.perf_counter(), time.process_time()
        load_network(path)
        first, used = time.perf_counter() - started, time.process_time() - processor
        started = time.perf_counter()
        load_network(path)
        return [first, used, time.perf_counter() - started]
    _warm_up()
    before = _peak()
    kept: list[Any] = []
    if what == "network":
        kept.append(load_network(path))
    else:
        with Checkpoint(path) as checkpoint:
            kept = [checkpoint.tensor(reference) for reference in tensors(checkpoint.content)]
            kept.append(checkpoint.content)
    return [_peak() - before]


def _peak() -> float:
    """Most bytes that this program had in memory. (`getrusage` tells its parent's, if larger.)"""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return 1024.0 * int(line.split()[1])


def _warm_up() -> None:
    """Compute and read something small: torch sets up much when it first does so."""
    import torch

    from pose_node.models.checkpoint import Checkpoint

    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.MaxPool2d(2), torch.nn.SiLU()
    )
    with torch.inference_mode():
        layers.eval()(torch.zeros(1, 3, 64, 64)).isfinite().all()
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"weights": torch.zeros(10)}, path := Path(folder) / "tiny.pt")
        with Checkpoint(path) as checkpoint:
            checkpoint.tensor(checkpoint.content["weights"])


def tensors(value: Any) -> Iterator[Any]:
    """Every tensor of what a checkpoint describes, once."""
    from pose_node.models.pickle_machine import Record, TensorReference

    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, TensorReference):
            if value.storage.key not in seen:
                seen.add(value.storage.key)
                yield value
        elif isinstance(value, Record):
            waiting.append(value.attributes)
        elif isinstance(value, (dict, list, tuple)):
            waiting.extend(value.values() if isinstance(value, dict) else value)


if __name__ == "__main__":
    sys.exit(main())
