"""``pose-node predict``: recordings in, files of results out."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose_node import __version__
from pose_node.arguments import ENGINE_SETTINGS, add_engine_arguments, positive, texts
from pose_node.models.fetch import file_digest, resolve_model
from pose_node.predict_outputs import (
    add_output_arguments,
    check_output_options,
    open_outputs,
    output_settings,
)
from pose_node.predict_sources import add_ray_arguments, check_ray, load_own_engine, open_sources
from pose_node.predict_tracking import add_tracking_arguments, following
from pose_node.process_settings import tune_process
from pose_node.progress import ProgressLine
from pose_node.source_names import shown_name

if TYPE_CHECKING:
    from pose_node.inference.engine import PoseEngine
    from pose_node.predict_sources import Sources
    from pose_node.predict_tracking import Following
    from pose_node.prediction.frames import Selection
    from pose_node.prediction.journal import Journal
    from pose_node.prediction.outputs import Output
    from pose_node.prediction.run import Progress, Summary

EXIT_FAILURES = 1
EXIT_INTERRUPTED = 130


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
    before = parser.add_mutually_exclusive_group()
    before.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    before.add_argument("--force", action="store_true", help="replace the results in DIR")
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
    add_output_arguments(parser)
    add_engine_arguments(parser, score_threshold=0.3, iou_threshold=0.65, max_people=100)
    parser.add_argument(
        "--batch-size", type=positive, metavar="N", help="images at once (8 on a GPU, else 1)"
    )
    add_tracking_arguments(parser)
    add_ray_arguments(parser)
    parser.set_defaults(command=run_predict, parser=parser)


def run_predict(options: argparse.Namespace) -> int:
    """0 if everything could be read, 1 if not, 130 if it was interrupted."""
    tune_process()  # before torch is imported
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # damage is reported by us
    from pose_node.prediction.folder import ResultsFolder
    from pose_node.prediction.frames import Selection
    from pose_node.prediction.recordings import expand_all, is_live

    check_output_options(options)
    try:
        selection = Selection.parse(options.range, every=options.every)
    except ValueError as error:
        options.parser.error(f"argument --range: {error}")
    sources = expand_all(options.sources)
    check_ray(options, [source for source in sources if is_live(source)])
    people = following(options)
    folder = ResultsFolder(options.output)
    if not (options.resume or options.force):
        folder.check_unused()
    model = resolve_model(options.model)
    settings = _settings(options, model, sources, selection, people)
    request = {**settings, **_followed(people), **output_settings(options)}
    if options.resume and (before := folder.complete_run(request)) is not None:
        return _report_complete(options, before)
    engine = load_own_engine(options, model)
    engine.score_threshold = settings["lowest_score"]
    journal = folder.open_journal(settings, engine.num_keypoints, resume=options.resume)
    begun, complete = options.resume, False
    try:
        # Ray takes the signals, too: ours come after it.
        with open_sources(options, engine, model, sources, selection, journal) as opened:
            outputs = open_outputs(options, sources, engine.skeleton)
            begun = True
            folder.begin()
            summary = _run(options, engine, sources, opened, outputs, journal, people)
        facts = {**_facts(engine), "settings": request, "device": opened.device}
        folder.write_summary(summary, facts)
        complete = summary.complete
    finally:  # what was found stays for `--resume` until all is written
        journal.close(keep=begun and not complete)
    return _report(options, summary)


def _run(
    options: argparse.Namespace,
    engine: PoseEngine,
    sources: Sequence[str],
    opened: Sources,
    outputs: Sequence[Output],
    journal: Journal,
    people: Following | None,
) -> Summary:
    from pose_node.interruption import stop_on_signals
    from pose_node.prediction.bag_output import BagOutput
    from pose_node.prediction.run import predict

    stop = threading.Event()
    with stop_on_signals(stop, signal.SIGINT, signal.SIGTERM), _Progress() as progress:
        summary = predict(
            engine,
            sources,
            opened.open,
            outputs,
            journal=journal,
            new_tracker=partial(people.new_tracker, engine.skeleton) if people else None,
            batch_size=options.batch_size or (1 if engine.device == "cpu" else 8),
            stop=stop,
            progress=progress.calls(),
        )
    for output in outputs:
        if isinstance(output, BagOutput):
            summary.failures += output.failures
    return summary


def _settings(
    options: argparse.Namespace,
    model: Path,
    sources: Sequence[str],
    selection: Selection,
    people: Following | None,
) -> dict[str, Any]:
    """What the people that are found depend on."""
    return {
        "model_sha256": file_digest(model),
        **{name: getattr(options, name) for name in ENGINE_SETTINGS},
        "classes": options.classes,
        "sources": [shown_name(source) for source in sources],
        "topics": options.topic,
        "range": options.range,
        "every": selection.every,
        "lowest_score": options.score_threshold if people is None else people.lowest_score,
    }


def _followed(people: Following | None) -> dict[str, Any]:
    return {"track": False, "smoothing": None} if people is None else people.to_json()


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


def _facts(engine: PoseEngine) -> dict[str, Any]:
    """What the summary file says of who found the people."""
    return {
        "model": engine.model_name,
        "skeleton": {
            "name": engine.skeleton.name,
            "keypoint_names": engine.skeleton.keypoint_names,
            "edges": engine.skeleton.edges,
        },
        "pose_node": __version__,
    }


def _report_complete(options: argparse.Namespace, before: dict[str, Any]) -> int:
    failures = len(before["failures"])
    anew = f", {failures} failures; --force runs it anew" if failures else ""
    print(f"{options.output}: the run is complete{anew}")
    return EXIT_FAILURES if failures else 0


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
