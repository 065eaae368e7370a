"""Where the sources of ``pose-node predict`` are read: in this process, or by a Ray cluster."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose_node.arguments import engine_arguments, load_engine, positive
from pose_node.errors import OutputError, SourceError
from pose_node.idle_options import refuse_idle_options
from pose_node.source_names import shown_name

if TYPE_CHECKING:
    from pose_node.inference.engine import PoseEngine
    from pose_node.prediction.frames import Recording, Selection
    from pose_node.prediction.journal import Journal

_WITHOUT_IMAGES = ("jsonl", "csv", "coco", "parquet")


def add_ray_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says whether and how to use a cluster."""
    group = parser.add_argument_group("many machines (docs/scale_out.md)")
    group.add_argument("--ray", action="store_true", help="spread the work over a Ray cluster")
    group.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="of the cluster: auto or HOST:PORT (RAY_ADDRESS, or else this machine alone)",
    )
    count: dict[str, Any] = {"type": positive, "metavar": "N"}
    group.add_argument(
        "--ray-workers", help="engines (one for each GPU, or as many as cores allow)", **count
    )
    group.add_argument(
        "--ray-cpus", default=2, help="cores of each engine without a GPU (2)", **count
    )


def check_ray(options: argparse.Namespace, live: Sequence[str]) -> None:
    """Refuse what a cluster cannot do, and options of one that is not used.

    Raises:
        SourceError: a source is live.
        OutputError: an output needs images.
        SystemExit: an option would do nothing.
    """
    of_ray = ["ray_address", "ray_workers", "ray_cpus"]
    refuse_idle_options(options.parser, options, of_ray, unless=options.ray, needed="--ray")
    if not options.ray:
        return
    own = "a run without --ray; with it, --ray-cpus says how many"
    refuse_idle_options(options.parser, options, ["threads"], unless=False, needed=own)
    if live:
        raise SourceError(f"{live[0]} is live, a cluster reads files only; leave --ray out")
    unable = _needing_images(options, _WITHOUT_IMAGES)
    if unable:
        raise OutputError(
            f"{unable[0]} needs the images, which stay with the workers of --ray; expected "
            f"--save {' '.join(_WITHOUT_IMAGES)}. `pose-node view` and another run can draw later"
        )


def _needing_images(options: argparse.Namespace, able: Sequence[str]) -> list[str]:
    """The outputs that are asked for and are not able to do without images."""
    unable = [f"--save {name}" for name in options.save if name not in able]
    return unable + [f"--{name}" for name in ("show", "rerun") if getattr(options, name)]


def load_own_engine(options: argparse.Namespace, model: Path) -> PoseEngine:
    """The engine of this process; with a cluster, it only says what the model is like."""
    if options.ray:
        options = argparse.Namespace(**{**vars(options), "device": "cpu", "half": False})
    return load_engine(options, model)


@dataclass(frozen=True)
class Sources:
    """Ready to be opened.

    Attributes:
        open: opens one by its name; in order.
        device: what finds the people, in words.
    """

    open: Callable[[str], Recording]
    device: str


@contextlib.contextmanager
def open_sources(
    options: argparse.Namespace,
    engine: PoseEngine,
    model: Path,
    sources: Sequence[str],
    selection: Selection,
    journal: Journal,
) -> Iterator[Sources]:
    """What opens the sources, until the end of the context.

    Raises:
        PoseNodeError: the cluster cannot be used.
    """
    if not options.ray:
        from pose_node.prediction.recordings import open_recording

        recalled = _recall_live(options, sources, journal)

        def open_one(source: str) -> Recording:
            if source in recalled:
                return recalled[source]
            return open_recording(source, selection, topics=options.topic)

        yield Sources(open_one, engine.device_description)
        return
    from pose_node.prediction.ray_cluster import Cluster
    from pose_node.prediction.ray_recordings import RayRecordings
    from pose_node.prediction.ray_workers import EngineSettings, ReadingPlan

    arguments = engine_arguments(options)
    arguments |= {"skeleton": engine.skeleton, "score_threshold": engine.score_threshold}
    settings = EngineSettings(model.name, arguments, options.ray_cpus)
    plan = ReadingPlan(os.getcwd(), selection, tuple(options.topic), journal.known())
    with RayRecordings(
        Cluster(options.ray_address, options.ray_workers, options.ray_cpus),
        sources,
        plan,
        settings,
        model.read_bytes(),
        journal,
        batch_size=options.batch_size,
    ) as recordings:
        yield Sources(recordings.open, recordings.description)


def _recall_live(
    options: argparse.Namespace, sources: Sequence[str], journal: Journal
) -> dict[str, Recording]:
    """The live sources of which the run before found something, by name.

    Raises:
        OutputError: an output needs their images, which are gone.
    """
    from pose_node.prediction.journal import RecalledRecording
    from pose_node.prediction.recordings import is_live

    recalled: dict[str, Recording] = {
        name: RecalledRecording(name, journal)
        for name in sources
        if is_live(name) and journal.was_live(shown_name(name))
    }
    able = (*_WITHOUT_IMAGES, "bag")
    if recalled and (unable := _needing_images(options, able)):
        raise OutputError(
            f"{unable[0]} needs the images of {shown_name(next(iter(recalled)))}, which is live "
            f"and cannot be read again; --resume --save {' '.join(able)} write what was found"
        )
    return recalled
