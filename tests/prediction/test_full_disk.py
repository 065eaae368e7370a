"""A disk that is full: a plain error, nothing unfinished left, nothing half in place of whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# The largest size of a file stands for a full disk: writing fails in the same way.
PROGRAM = """
import resource, sys, threading
from pathlib import Path
import numpy as np
from pose_node.errors import OutputError
from pose_node.poses import COCO17, Poses
from pose_node.prediction.bag_output import BagOutput
from pose_node.prediction.outputs import CocoResults, Csv, JsonLines
from pose_node.prediction.parquet_output import Parquet
from pose_node.prediction.pictures import AnnotatedPictures
from pose_node.prediction.run import predict
from pose_node.viewing.output import RerunOutput
from tests.prediction.conftest import FakeRecording, make_recorded

out, kind = Path(sys.argv[1]), sys.argv[2]
random = np.random.default_rng(0)
noise = random.integers(0, 255, (240, 320, 3), np.uint8)

def engine(images, *, channel_order):
    return [
        Poses.from_arrays(random.random((3, 4)), random.random(3), random.random((3, 17, 3)))
        for _ in images
    ]

class Small(JsonLines):  # has room on every disk
    def write(self, frame, poses):
        pass

makers = {
    "jsonl": lambda: JsonLines(out / "poses.jsonl"),
    "csv": lambda: Csv(out / "poses.csv", COCO17),
    "coco": lambda: CocoResults(out / "coco.json", numbered=False),
    "annotated": lambda: AnnotatedPictures(out, COCO17),
    "parquet": lambda: Parquet(out / "poses.parquet"),
    "rerun": lambda: RerunOutput(out / "view.rrd", COCO17),
    "mcap": lambda: BagOutput(out, COCO17, storage="mcap"),
    "sqlite3": lambda: BagOutput(out, COCO17, storage="sqlite3"),
}
outputs = [makers[kind](), Small(out / "other.jsonl")]
frames = [make_recorded(index, image=noise) for index in range(60)]
resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
try:
    predict(engine, ["a.mp4"], lambda name: FakeRecording(frames), outputs)
except OutputError as error:
    print(error)
print(threading.active_count(), "threads")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are those of POSIX")
@pytest.mark.parametrize(
    "kind", ["jsonl", "csv", "coco", "parquet", "rerun", "annotated", "mcap", "sqlite3"]
)
def test_nothing_unfinished_is_left(tmp_path: Path, kind: str) -> None:
    if kind in ("mcap", "sqlite3"):
        pytest.importorskip("rosbags", reason="rosbags missing: pip install rosbags")
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is missing")
    if kind == "rerun":
        pytest.importorskip("rerun", reason="the Rerun SDK is missing")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), kind],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    message, *rest = done.stdout.splitlines()
    assert message.startswith("cannot write "), done.stderr
    assert rest == ["1 threads"]
    assert "Traceback" not in done.stderr
    assert [path for path in tmp_path.rglob("*") if ".partial" in path.name] == []
    # Those that write, or tell of it, only at the end do not keep the others from their names.
    whole = [tmp_path / "other.jsonl"] if kind in ("parquet", "rerun") else []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == whole
