"""A run on a real Ray cluster of two workers on this machine; slow to start, so there is one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose_node import PoseEngine, cli
from pose_node.errors import ClusterError, DeviceError
from pose_node.poses import Poses
from pose_node.prediction import ray_cluster
from pose_node.prediction.frames import Failure, RecordedFrame, Recording, Selection
from pose_node.prediction.journal import Journal
from pose_node.prediction.outputs import frame_as_json
from pose_node.prediction.ray_cluster import Cluster
from pose_node.prediction.ray_recordings import RayRecordings
from pose_node.prediction.ray_workers import EngineSettings, ReadingPlan
from pose_node.prediction.recordings import open_recording
from pose_node.prediction.run import predict

# What Ray and its parts warn of.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ARGUMENTS = {"image_size": 64, "score_threshold": 0.001, "max_people": 3}
COMMAND = ["--image-size", "64", "--score-threshold", "0.001", "--max-people", "3"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster of two cores, one for each worker; it ends with the tests."""
    pytest.importorskip("ray", reason="Ray is missing")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    from ray.cluster_utils import Cluster as Machines

    machines = Machines(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "include_dashboard": False,
            "object_store_memory": 200 << 20,
        },
    )
    try:
        yield Cluster(machines.address, workers=2, cpus_per_worker=1)
    finally:
        machines.shutdown()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many as a worker of the cluster has: the last digits depend on it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model(shared: Path) -> Path:
    return shared / "fixtures/ul_yolo11_tiny_pose.pt"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two hundred frames of noise that changes."""
    return _write_noise(tmp_path / "clip.avi", 200, (64, 48))


@pytest.fixture
def large_clip(tmp_path: Path) -> Path:
    """More pixels than Ray keeps between a reader and its engines: 300 frames of 0.9 MB."""
    return _write_noise(tmp_path / "large.avi", 300, (640, 480))


def _write_noise(path: Path, frames: int, size: tuple[int, int]) -> Path:
    """A video of noise that moves."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, size)
    noise = np.random.default_rng(0).integers(0, 256, (48, 64 + frames, 3), np.uint8)
    for index in range(frames):
        part = np.ascontiguousarray(noise[:, index : index + 64])
        writer.write(cv2.resize(part, size, interpolation=cv2.INTER_CUBIC))
    writer.release()
    return path


@dataclass
class Collected:
    """An output that remembers, and calls something after so many frames."""

    then: dict[int, Callable[[], None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def begin(self, recording: Recording) -> None:
        pass

    def write(self, frame: RecordedFrame, poses: Poses) -> None:
        self.lines.append(frame_as_json(frame, poses))
        if len(self.lines) in self.then:
            self.then[len(self.lines)]()

    def end(self, *, complete: bool) -> None:
        pass

    def close(self) -> list[Path]:
        return []

    def abort(self) -> None:
        pass


def local(model: Path, *sources: str) -> tuple[list[dict[str, Any]], list[Failure]]:
    output = Collected()
    engine = PoseEngine.load(model, device="cpu", **ARGUMENTS)
    run = predict(engine, sources, lambda name: open_recording(name, Selection()), [output])
    return output.lines, run.failures


@contextlib.contextmanager
def by_ray(
    cluster: Cluster, model: Path, folder: Path, *sources: str, resume: bool = False
) -> Iterator[RayRecordings]:
    settings = EngineSettings(model.name, {"device": "auto", **ARGUMENTS}, 1)
    journal = Journal(folder / "journal", {}, num_keypoints=17, resume=resume)
    plan = ReadingPlan(os.getcwd(), Selection(), (), journal.known())
    content = model.read_bytes()
    try:
        with RayRecordings(cluster, sources, plan, settings, content, journal) as recordings:
            yield recordings
    finally:
        journal.close(keep=True)


def never(*_: object, **__: object) -> list[Poses]:
    raise AssertionError("the engine of this process is not used")


ENGINES = "ray::MapWorker(MapBatches(EngineWorker"
READERS = "ray::MapBatches(read_source"


def processes(title: str) -> set[int]:
    """The processes that Ray calls so; those of tasks only while they are at work."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue
        if text.startswith(title):
            found.add(int(path.parent.name))
    return found


def test_two_workers_find_what_one_process_finds(
    cluster: Cluster, model: Path, images: Path, clip: Path, tmp_path: Path, one_thread: None
) -> None:
    sources = [str(images), "nowhere.mp4", str(clip), str(images)]
    expected, failures = local(model, *sources)
    output = Collected()
    with by_ray(cluster, model, tmp_path, *sources) as recordings:
        assert recordings.description == "Ray, 2 workers on CPUs"
        summary = predict(never, sources, recordings.open, [output])
    assert output.lines == expected
    assert len(expected) == 206
    assert sum(len(line["people"]) for line in expected) > 100
    assert summary.complete
    assert [failure.source for failure in summary.failures] == [item.source for item in failures]


@pytest.mark.parametrize("title", [ENGINES, READERS])
def test_killed_workers_lose_nothing_and_double_nothing(
    cluster: Cluster, model: Path, large_clip: Path, tmp_path: Path, one_thread: None, title: str
) -> None:
    """All of a kind at once: whatever was at hand is lost."""
    expected, _ = local(model, str(large_clip))
    killed: set[int] = set()
    later: set[int] = set()

    def kill() -> None:
        killed.update(processes(title))
        for process_id in killed:
            os.kill(process_id, signal.SIGKILL)

    output = Collected(then={20: kill, 260: lambda: later.update(processes(ENGINES))})
    with by_ray(cluster, model, tmp_path, str(large_clip)) as recordings:
        predict(never, [str(large_clip)], recordings.open, [output])
    assert killed
    if title == ENGINES:  # not all was computed: new ones had to come before the end
        assert later
        assert not later & killed
    assert output.lines == expected


def test_the_command_goes_on_where_a_run_without_ray_was_killed(
    cluster: Cluster,
    model: Path,
    clip: Path,
    tmp_path: Path,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "out"
    arguments = ["predict", str(clip), "--model", str(model), *COMMAND, "--output", str(folder)]
    arguments += ["--device", "cpu", "--track"]
    close = Journal.close
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "close", lambda journal, *, keep: close(journal, keep=True))
        assert cli.main(arguments) == 0
    expected = (folder / "poses.jsonl").read_text()
    (folder / "run.json").unlink()
    journal = folder / ".journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:121]))
    arguments += ["--ray", "--ray-address", str(cluster.address), "--ray-cpus", "1", "--resume"]
    capsys.readouterr()
    assert cli.main([*arguments, "--save", "jsonl", "csv", "coco", "parquet"]) == 0
    assert "200 images (120 from the run before)" in capsys.readouterr().out
    assert (folder / "poses.jsonl").read_text() == expected
    summary = json.loads((folder / "run.json").read_text())
    assert summary["device"] == "Ray, 2 workers on CPUs"
    assert summary["files"] == [
        *("poses.jsonl", "poses.csv", "poses.parquet"),
        *("coco_results.json", "coco_results_images.json"),
    ]


def test_a_known_image_that_cannot_be_read_any_more_costs_only_itself(
    cluster: Cluster,
    model: Path,
    images: Path,
    tmp_path: Path,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "out"
    command = ["predict", str(images), "--model", str(model), *COMMAND, "--output", str(output)]
    command += ["--ray", "--ray-address", str(cluster.address), "--ray-cpus", "1"]
    close = Journal.close
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "close", lambda journal, *, keep: close(journal, keep=True))
        assert cli.main(command) == 1
    expected = (output / "poses.jsonl").read_text().splitlines()
    (output / "run.json").unlink()
    (images / "001.png").write_bytes(b"no image any more")
    assert cli.main([*command, "--resume"]) == 1
    assert (output / "poses.jsonl").read_text().splitlines() == expected[1:]
    summary = json.loads((output / "run.json").read_text())
    assert (summary["frames"], summary["frames_recalled"]) == (2, 2)
    failed = [Path(failure["source"]).name for failure in summary["failures"]]
    assert failed == ["001.png", "004.png"]


def test_an_engine_that_cannot_start(cluster: Cluster, tmp_path: Path, clip: Path) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no model")
    with (
        pytest.raises(ClusterError) as caught,
        by_ray(cluster, broken, tmp_path, str(clip)),
    ):
        pass
    assert "the Ray cluster failed" in str(caught.value)
    assert "no engine of it has started" in str(caught.value)


@pytest.mark.parametrize(
    ("device", "cpus", "error", "expected"),
    [
        ("cuda", 1, DeviceError, "the Ray cluster has no GPU"),
        ("cuda:1", 1, DeviceError, "expected device auto, cpu or cuda with Ray"),
        ("cpu", 3, ClusterError, "has 2 cores, fewer than the 3 of one worker"),
    ],
)
def test_what_the_cluster_does_not_have(
    cluster: Cluster, device: str, cpus: int, error: type[Exception], expected: str, tmp_path: Path
) -> None:
    settings = EngineSettings("a.pt", {"device": device}, 1)
    plan = ReadingPlan(os.getcwd(), Selection())
    journal = Journal(tmp_path / "journal", {}, num_keypoints=17, resume=False)
    with pytest.raises(error, match=expected):
        RayRecordings(Cluster(cluster.address, None, cpus), ["a"], plan, settings, b"", journal)
    journal.close(keep=False)


def test_gpus_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ray:
        @staticmethod
        def cluster_resources() -> dict[str, float]:
            return {"GPU": 3.0, "CPU": 16.0}

    found = ray_cluster.find_resources
    assert found(Ray, Cluster(), "auto") == (3, True)
    assert found(Ray, Cluster(workers=2), "cuda") == (2, True)
    assert found(Ray, Cluster(cpus_per_worker=4), "cpu") == (4, False)
    assert found(Ray, Cluster(workers=9), "cpu") == (8, False)


def test_a_cluster_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is missing")

    def fail(**_: object) -> None:
        raise ConnectionError("nobody answers\nand so on")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(ClusterError, match=r"Ray cannot start or be reached: nobody answers$"):
        ray_cluster.connect(Cluster("10.0.0.1:6379"))


def test_a_new_cluster_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is missing")
    given: dict[str, Any] = {}
    monkeypatch.setattr(ray, "init", lambda **arguments: given.update(arguments))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray_cluster.connect(Cluster(workers=40, cpus_per_worker=3))
    assert (given["address"], given["num_cpus"]) == ("local", max(120, os.cpu_count() or 1))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    given.clear()
    ray_cluster.connect(Cluster())
    assert given["address"] == "10.0.0.1:6379"
    assert "num_cpus" not in given  # that of a cluster is its own affair


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install 'pose-node\[ray\]'"):
        ray_cluster.connect(Cluster())
