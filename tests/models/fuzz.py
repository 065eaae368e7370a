"""Feeds damaged model files to the readers, many of them, and keeps those that find a fault.

    scripts/fuzz [--inputs 20000] [--seed 0] [--target pickle] [--folder FOLDER]

A fault is any other exception than the one that the reader documents, more than five seconds, or
more memory than two and a half times the file and a fixed allowance. Every input follows from its
seed and number, so that a fault can be had again.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import pickle
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from pose_node.errors import CheckpointError
from pose_node.models import load_network
from pose_node.models.checkpoint import Checkpoint
from pose_node.models.pickle_machine import PickleError, Record, TensorReference, read_pickle
from tests.models.checkpoint_maker import archived, pickled, tiny_checkpoint, tiny_members
from tests.models.hostile_files import hostile_files
from tests.models.mutations import (
    damage_bytes,
    damage_operations,
    damaged_native,
    damaged_network,
    operations,
)

SECONDS = 5
ALLOWANCE = 128 << 20  # bytes
ADDRESS_BYTES = 4 << 30
MAX_TEXT = 4000  # characters of an error


class TookTooLong(BaseException):
    """Not an Exception, so that nothing on the way can take it for an ordinary error."""


def good_pickles() -> list[bytes]:
    """Small pickles of every kind of value that checkpoints hold."""
    record, _ = tiny_members()
    parts = [record, *(record.children["model"].children[name] for name in "02459")]
    plain = {"model": None, "names": {0: "person"}, "f": [1.5, (2, 3), b"x", -1, 2**40, True]}
    seeds = [pickled(value) for value in (*parts, plain)]
    training = {"best": np.float64(0.5), "results": np.arange(3.0), "path": PurePosixPath("a/b")}
    values = {**plain, **training, "shared": [seeds[-1][:9]] * 3, "set": {1, 2}}
    seeds += [pickle.dumps(values, protocol) for protocol in (2, 3, 4, 5)]
    return seeds


def hostile_pickles() -> list[bytes]:
    """The short ones of the corpus, to cross them with the others."""
    found = []
    for name, file in hostile_files("true").items():
        if name.startswith(("call", "trick")):
            data = file.make()
            start = data.find(b"\x80\x02")
            if start >= 0 and len(data) < 2000:
                found.append(data[start : data.index(b"PK", start)])
    return found


class Targets:
    """What is fuzzed: each takes a source of random numbers, and gives the size of its input."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "input.pt"
        self.native_path = folder / "input.safetensors"
        whole, self.members = tiny_members()
        self.pickles = good_pickles()
        self.cut = [operations(seed) for seed in self.pickles]
        self.hostile = hostile_pickles()
        self.hostile_cut = [operations(seed) for seed in self.hostile]
        self.whole = operations(pickled({"model": whole}))
        self.archives = [tiny_checkpoint(), archived({"m/data.pkl": self.pickles[0]})]
        self.native = hostile_files("true")["native-good"].make()
        self.last = b""  # the input
        self.accepted = 0  # inputs that are in order, for all that their reader can tell

    def pickle(self, source: random.Random) -> None:
        """`read_pickle` alone."""
        if source.random() < 0.5:
            other = source.choice(source.choice((self.pickles, self.hostile)))
            data = damage_bytes(source.choice(self.pickles), other, source)
        else:
            others = source.choice(source.choice((self.cut, self.hostile_cut)))
            data = damage_operations(source.choice(self.cut), others, source)
        self.last = data
        with contextlib.suppress(PickleError):
            read_pickle(data)
            self.accepted += 1

    def archive(self, source: random.Random) -> None:
        """The archive and every tensor of it."""
        self.last = damage_bytes(source.choice(self.archives), self.archives[1], source)
        self.path.write_bytes(self.last)
        self._read()

    def checkpoint(self, source: random.Random) -> None:
        """A whole archive around a damaged pickle, and every tensor of it."""
        data = damage_operations(self.whole, source.choice(self.cut), source)
        if source.random() < 0.5:
            data = damage_bytes(b"".join(self.whole), source.choice(self.pickles), source)
        self.last = archived({"tiny/data.pkl": data, **self.members})
        self.path.write_bytes(self.last)
        self._read()

    def network(self, source: random.Random) -> None:
        """`load_network` on checkpoints."""
        if source.random() < 0.85:
            self.last = damaged_network(source)
        else:
            data = damage_operations(self.whole, source.choice(self.cut), source)
            self.last = archived({"tiny/data.pkl": data, **self.members})
        self.path.write_bytes(self.last)
        with _refusal(self.path):
            load_network(self.path)
            self.accepted += 1

    def safetensors(self, source: random.Random) -> None:
        """`load_network` on native files."""
        if source.random() < 0.8:
            self.last = damaged_native(self.native, source)
        else:
            self.last = damage_bytes(self.native, self.native, source)
        self.native_path.write_bytes(self.last)
        with _refusal(self.native_path):
            load_network(self.native_path)
            self.accepted += 1

    def _read(self) -> None:
        with _refusal(self.path), Checkpoint(self.path) as checkpoint:
            for reference in references(checkpoint.content):
                checkpoint.tensor(reference)
            self.accepted += 1


TARGETS = {
    "pickle": 0.8,
    "archive": 0.12,
    "checkpoint": 0.04,
    "network": 0.025,
    "safetensors": 0.015,
}
"""With their share of all inputs."""


@contextlib.contextmanager
def _refusal(path: Path) -> Iterator[None]:
    """A refusal is in order, if it names the file and is for people."""
    try:
        yield
    except CheckpointError as error:
        if str(path) not in str(error) or len(str(error)) > MAX_TEXT:
            raise RuntimeError(f"an error text like this: {str(error)[:200]}") from error


def references(value: Any) -> Iterator[TensorReference]:
    if isinstance(value, TensorReference):
        yield value
    elif isinstance(value, Record):
        yield from references(value.attributes)
    elif isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from references(part)


def fuzz(targets: Targets, target: str, numbers: range, seed: int) -> Iterator[tuple[int, str]]:
    """Run a target on the inputs of those numbers; gives number and text of each fault."""
    run: Callable[[random.Random], None] = getattr(targets, target)
    for number in numbers:
        source = random.Random(f"{target} {seed} {number}")
        before = _peak()
        fault = ""
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            run(source)
        except TookTooLong:
            fault = f"more than {SECONDS} s"
        except Exception as error:  # noqa: BLE001  every other one is what we look for
            fault = f"{type(error).__name__}: {error}"[:300]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if (growth := _peak() - before) > 2.5 * len(targets.last) + ALLOWANCE:
            fault = fault or f"{growth >> 20} MB for a file of {len(targets.last)} bytes"
        if fault:
            yield number, fault


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _too_long(_signal: int, _frame: Any) -> None:
    raise TookTooLong


def _limit() -> None:
    """This process may take no more than this, and uses one thread."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ADDRESS_BYTES,) * 2)
    signal.signal(signal.SIGALRM, _too_long)
    torch.set_num_threads(1)
    gc.freeze()


def main() -> int:
    """Fuzz all targets, each in a process of its own; exit code 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=20_000, help="number of inputs, all in all")
    parser.add_argument("--seed", type=int, default=0, help="other inputs for another number")
    parser.add_argument("--target", choices=TARGETS, help="this one alone")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="keeps the faults")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    faulty = 0
    for target, share in TARGETS.items():
        if options.target in (None, target):
            count = options.inputs if options.target else round(options.inputs * share)
            faulty += _in_child(target, count, options.seed, options.folder)
    return 1 if faulty else 0


def _in_child(target: str, count: int, seed: int, folder: Path) -> int:
    started = time.monotonic()
    child = os.fork()
    if not child:
        faults: Counter[str] = Counter()
        status = 2
        try:
            _limit()
            with tempfile.TemporaryDirectory(prefix="fuzz") as work:
                targets = Targets(Path(work))
                for number, fault in fuzz(targets, target, range(count), seed):
                    faults[fault] += 1
                    if faults[fault] <= 3:
                        print(f"{target} {seed} {number}: {fault}", flush=True)
                        (folder / f"{target}-{seed}-{number}.fault").write_bytes(targets.last)
                print(f"{target}: {targets.accepted} of the inputs were in order", flush=True)
            status = 1 if faults else 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - started
    outcome = {0: "no fault", 256: "FAULTS, see above"}.get(status, f"DIED: status {status}")
    print(f"{target}: {count} inputs in {seconds:.0f} s, seed {seed}: {outcome}", flush=True)
    return int(status != 0)


if __name__ == "__main__":
    sys.exit(main())
