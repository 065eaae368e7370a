"""``pose-node predict``: recordings in, files of results out."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose_node import __version__
from pose_node.arguments import ENGINE_SETTINGS, add_engine_arguments, positive, texts
from pose_node.errors import OutputError, SourceError
from pose_node.models.fetch import file_digest, resolve_model
from pose_node.predict_sources import add_ray_arguments, check_ray, load_own_engine, open_sources
from pose_node.process_settings import tune_process
from pose_node.progress import ProgressLine

if TYPE_CHECKING:
    from pose_node.inference.engine import PoseEngine
    from pose_node.poses import Poses, Skeleton
    from pose_node.prediction.frames import Selection
    from pose_node.prediction.journal import Journal
    from pose_node.prediction.outputs import Output
    from pose_node.prediction.run import Progress, Summary, Tracker

EXIT_FAILURES = 1
EXIT_INTERRUPTED = 130

FORMATS = ("jsonl", "csv", "coco", "parquet", "annotated", "bag")
_SUMMARY, _JOURNAL = "run.json", ".journal.jsonl"


def add_predict(commands: Any) -> None:
    """Add the parser of the command."""
    parser = commands.add_parser(
        "predict",
        help="find people in images, videos, webcams and bags",
        **texts(
            "Find the people in images, folders, patterns, videos, animated GIFs, webcams, streams "
            "and bags\n(rosbag2, no ROS needed), and write what is found to a folder, in the forms "
            "that\ndocs/predict.md describes.",
            "pose-node predict video.mp4 --save jsonl annotated",
            'pose-node predict photos "more/*.png" --save csv coco --output results',
            "pose-node predict recording_mcap --save bag --copy-bag",
            "pose-node predict video.mp4 --range 10s:20s --every 5",
            "pose-node predict archive --output results --resume",
        ),
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="image, folder, pattern, video, webcam number, stream address or bag",
    )
    parser.add_argument(
        "--model", default="yolo11n-pose", help="a file, or a fetched model (yolo11n-pose)"
    )
    parser.add_argument(
        "--save",
        nargs="+",
        default=["jsonl"],
        choices=FORMATS,
        help="what to write: any of %(choices)s (jsonl)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("predictions"), metavar="DIR", help="to (predictions)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--force", action="store_true", help="replace the results in DIR")
    parser.add_argument("--range", default=":", metavar="A:B", help="frames 100:200 or 5s:7.5s")
    parser.add_argument(
        "--every", type=positive, default=1, metavar="N", help="only each N-th frame"
    )
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        help="of bags, an image topic to read (all of colour images)",
    )
    parser.add_argument(
        "--codec", choices=("vp8", "vp9", "h264"), default="vp8", help="of annotated videos (vp8)"
    )
    parser.add_argument(
        "--keypoint-threshold",
        type=float,
        default=0.5,
        metavar="X",
        help="keypoints below are not drawn (0.5)",
    )
    parser.add_argument(
        "--bag-storage", choices=("mcap", "sqlite3"), help="of bags that are written (as read)"
    )
    parser.add_argument(
        "--copy-bag", action="store_true", help="copy the messages that are read into the new bag"
    )
    parser.add_argument(
        "--track", action="store_true", help="give people ids that last from frame to frame"
    )
    parser.add_argument("--show", action="store_true", help="show results in a window as well")
    parser.add_argument(
        "--rerun", action="store_true", help="write DIR/view.rrd for the Rerun viewer as well"
    )
    add_engine_arguments(parser, score_threshold=0.3, iou_threshold=0.65, max_people=100)
    parser.add_argument(
        "--batch-size", type=positive, metavar="N", help="images at once (8 on a GPU, else 1)"
    )
    add_ray_arguments(parser)
    parser.set_defaults(command=run_predict, parser=parser)


def run_predict(options: argparse.Namespace) -> int:
    """0 if everything could be read, 1 if not, 130 if it was interrupted."""
    tune_process()  # before torch is imported
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # damage is reported by us
    from pose_node.prediction.frames import Selection
    from pose_node.prediction.journal import Journal
    from pose_node.prediction.outputs import write_summary
    from pose_node.prediction.recordings import expand, is_live

    try:
        selection = Selection.parse(options.range, every=options.every)
    except ValueError as error:
        options.parser.error(f"argument --range: {error}")
    sources = [source for text in options.sources for source in expand(text)]
    live = [source for source in sources if is_live(source)]
    if live and options.resume:
        raise SourceError(f"{live[0]} is live and cannot be resumed")
    check_ray(options, live)
    known = _before(options)
    if known is not None:
        return known
    model = resolve_model(options.model)
    engine = load_own_engine(options, model)
    if options.track:
        engine.score_threshold = _lowest_score(options.score_threshold)
    settings = {
        **_settings(options, model, sources, selection),
        "lowest_score": engine.score_threshold,
    }
    journal = Journal(
        options.output / _JOURNAL,
        settings,
        num_keypoints=engine.num_keypoints,
        resume=options.resume,
    )
    summary, device = _run(options, engine, model, sources, selection, journal)
    facts = _facts(options, engine, settings, summary)
    write_summary(options.output / _SUMMARY, {**facts, "device": device})
    return _report(options, summary)


def _run(
    options: argparse.Namespace,
    engine: PoseEngine,
    model: Path,
    sources: Sequence[str],
    selection: Selection,
    journal: Journal,
) -> tuple[Summary, str]:
    """The run, and what found the people; its journal stays for `--resume` if there is need."""
    from pose_node.prediction.run import predict, stop_on_signals

    begun, complete = options.resume, False
    try:
        outputs = _outputs(options, sources, engine.skeleton)
        begun = True
        (options.output / _SUMMARY).unlink(missing_ok=True)
        stop = threading.Event()
        with (
            # Ray takes the signals, too: ours come after it.
            open_sources(options, engine, model, sources, selection, journal) as opened,
            stop_on_signals(stop, signal.SIGINT, signal.SIGTERM),
            _Progress() as progress,
        ):
            summary = predict(
                engine,
                sources,
                opened.open,
                outputs,
                journal=journal,
                new_tracker=_new_tracker(options, engine.skeleton) if options.track else None,
                batch_size=options.batch_size or (1 if engine.device == "cpu" else 8),
                stop=stop,
                progress=progress.calls(),
            )
        complete = summary.complete
    finally:
        journal.close(keep=begun and not complete)
    return summary, opened.device


def _before(options: argparse.Namespace) -> int | None:
    """The exit code if there is nothing to do; None to go on.

    Raises:
        OutputError: the folder holds results that nobody said what to do with.
    """
    summary, journal = options.output / _SUMMARY, options.output / _JOURNAL
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        before = json.loads(summary.read_bytes()) if summary.exists() else None
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot use {options.output}: {error}") from error
    if options.force or (before is None and not journal.exists()):
        return None
    if not options.resume:
        raise OutputError(
            f"{options.output} holds the results of a run before; --resume continues it, --force "
            "replaces it, --output DIR writes elsewhere"
        )
    if before is not None and before.get("complete"):
        failures = len(before.get("failures", ()))
        print(
            f"{options.output}: the run is complete"
            + (f", {failures} failures; --force runs it anew" if failures else "")
        )
        return EXIT_FAILURES if failures else 0
    return None


def _outputs(
    options: argparse.Namespace, sources: Sequence[str], skeleton: Skeleton
) -> list[Output]:
    from pose_node.prediction.bags import is_bag
    from pose_node.prediction.outputs import CocoResults, Csv, JsonLines

    folder: Path = options.output
    outputs: list[Output] = []
    if options.show:
        from pose_node.prediction.window import Window

        outputs.append(Window(skeleton))
    if "bag" in options.save:
        others = [source for source in sources if not is_bag(Path(source))]
        if options.copy_bag and others:
            raise OutputError(f"--copy-bag: only bags can be copied, {others[0]} is none")
        from pose_node.prediction.bag_output import BagOutput

        bags = folder / "bags"
        outputs.append(
            BagOutput(bags, skeleton, storage=options.bag_storage, copy=options.copy_bag)
        )
    if "annotated" in options.save:
        from pose_node.prediction.pictures import AnnotatedPictures

        outputs.append(
            AnnotatedPictures(
                folder / "annotated",
                skeleton,
                codec=options.codec,
                keypoint_threshold=options.keypoint_threshold,
            )
        )
    if "jsonl" in options.save:
        outputs.append(JsonLines(folder / "poses.jsonl"))
    if "csv" in options.save:
        outputs.append(Csv(folder / "poses.csv", skeleton))
    if options.rerun:
        from pose_node.viewing.output import RerunOutput

        outputs.append(
            RerunOutput(
                folder / "view.rrd", skeleton, keypoint_threshold=options.keypoint_threshold
            )
        )
    if "parquet" in options.save:
        from pose_node.prediction.parquet_output import Parquet

        outputs.append(Parquet(folder / "poses.parquet"))
    if "coco" in options.save:
        numbered = _have_numbers(sources)
        outputs.append(CocoResults(folder / "coco_results.json", numbered=numbered))
    return outputs


def _have_numbers(sources: Sequence[str]) -> bool:
    """Whether all sources are images whose names are different numbers, as COCO's are."""
    from pose_node.sources import find_images

    try:
        names = [path.stem for source in sources for path in find_images(source)]
    except SourceError:  # a video, or nothing
        return False
    return all(name.isdecimal() for name in names) and len({*map(int, names)}) == len(names)


def _settings(
    options: argparse.Namespace, model: Path, sources: Sequence[str], selection: Selection
) -> dict[str, Any]:
    """What the people that are found depend on."""
    return {
        "model_sha256": file_digest(model),
        **{name: getattr(options, name) for name in ENGINE_SETTINGS},
        "classes": options.classes,
        "sources": list(sources),
        "topics": options.topic,
        "range": options.range,
        "every": selection.every,
    }


class _PersonIds:
    """A tracker that lets weak people through only if they continue a track."""

    def __init__(self, skeleton: Skeleton, score_threshold: float) -> None:
        from pose_node.tracking import PoseTracker

        self._tracker = PoseTracker(skeleton)
        self._score_threshold = score_threshold

    def update(self, poses: Poses, stamp_ns: int | None) -> Poses:
        """The people of the next frame, with ids; images by themselves get none."""
        from pose_node.tracking import publishable

        if stamp_ns is not None:
            poses = self._tracker.update(poses, stamp_ns)
        return publishable(poses, self._score_threshold)


def _lowest_score(score_threshold: float) -> float:
    """What a tracker needs of the engine: weak people too, if they continue a track."""
    from pose_node.tracking import TrackerSettings

    return min(score_threshold, TrackerSettings().low_score)


def _new_tracker(options: argparse.Namespace, skeleton: Skeleton) -> Callable[[], Tracker]:
    return lambda: _PersonIds(skeleton, options.score_threshold)


class _Progress:
    """A progress line for each source."""

    def __init__(self) -> None:
        self._line: ProgressLine | None = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def calls(self) -> Progress:
        """What `predict` calls."""
        from pose_node.prediction.run import Progress

        return Progress(self._begin, self._frames)

    def _frames(self, done: int, total: int | None) -> None:
        if self._line is not None:
            self._line(done, total)

    def _begin(self, name: str, number: int, total: int) -> None:
        self._clear()
        place = f" ({number} of {total})" if total > 1 else ""
        self._line = ProgressLine(f"{Path(name).name}{place}", unit="frames", rate=True)

    def _clear(self) -> None:
        if self._line is not None:
            self._line.__exit__(None, None, None)


def _facts(
    options: argparse.Namespace, engine: PoseEngine, settings: dict[str, Any], summary: Summary
) -> dict[str, Any]:
    """The content of the summary file."""
    return {
        "complete": summary.complete,
        "frames": summary.frames,
        "frames_recalled": summary.recalled,
        "people": summary.people,
        "seconds": round(summary.seconds, 3),
        "failures": [
            {
                "source": failure.source,
                "topic": failure.topic,
                "frame": failure.index,
                "reason": failure.reason,
            }
            for failure in summary.failures
        ],
        "files": [os.path.relpath(path, options.output) for path in summary.files],
        "model": engine.model_name,
        "skeleton": {
            "name": engine.skeleton.name,
            "keypoint_names": engine.skeleton.keypoint_names,
            "edges": engine.skeleton.edges,
        },
        "settings": {**settings, "track": options.track},
        "pose_node": __version__,
    }


def _report(options: argparse.Namespace, summary: Summary) -> int:
    rate = summary.frames / summary.seconds if summary.seconds else 0.0
    for failure in summary.failures:
        print(f"pose-node: could not read {failure}", file=sys.stderr)
    recalled = f" ({summary.recalled} from the run before)" if summary.recalled else ""
    print(
        f"{summary.frames} images{recalled}, {summary.people} people, {summary.seconds:.1f} s "
        f"({rate:.1f} images/s); {len(summary.failures)} failures; results in {options.output}"
    )
    if not summary.complete:
        print("interrupted: these are finished files of what was done; --resume continues")
        return EXIT_INTERRUPTED
    return EXIT_FAILURES if summary.failures else 0
