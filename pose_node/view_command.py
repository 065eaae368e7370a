"""``pose-node view``: results, or a running node, in the Rerun viewer."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose_node.arguments import texts
from pose_node.errors import PoseNodeError
from pose_node.progress import ProgressLine
from pose_node.viewing.options import add_view_arguments, check_view_arguments, open_destination

if TYPE_CHECKING:
    from pose_node.viewing.destinations import Destination
    from pose_node.viewing.results import Results

EXIT_INTERRUPTED = 130


def add_view(commands: Any) -> None:
    """Add the parser of the command."""
    parser = commands.add_parser(
        "view",
        help="look at results, or at a running node, in the Rerun viewer",
        **texts(
            "Show images, skeletons, ids, scores and points in space over time: in a window, in a "
            "browser,\nor written to a recording. `pose-node view --live --help` has the options "
            "for a running node.\ndocs/view.md says more.",
            "pose-node view predictions",
            "pose-node view predictions --save predictions.rrd",
            "pose-node view predictions/poses.jsonl --images /archive --serve",
            "pose-node view --live --serve",
        ),
    )
    parser.add_argument(
        "results",
        type=Path,
        metavar="RESULTS",
        help="folder of a `pose-node predict` run, or its JSON Lines or Parquet file",
    )
    parser.add_argument(
        "--live", action="store_true", help="show a running node instead of results (ROS 2)"
    )
    parser.add_argument(
        "--images",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="look for the images and videos here, too",
    )
    parser.add_argument("--no-images", action="store_true", help="show people only")
    parser.add_argument(
        "--skeleton", metavar="NAME|YAML", help="what the keypoints are (as the run says)"
    )
    add_view_arguments(parser)
    parser.set_defaults(command=view_results, parser=parser)


def view_results(options: argparse.Namespace) -> int:
    """0 when everything is shown, 130 if it was interrupted before."""
    check_view_arguments(options.parser, options)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is damaged is reported by us
    from pose_node.interruption import stop_on_signals
    from pose_node.skeletons import load_skeleton
    from pose_node.viewing.results import Results

    skeleton = None if options.skeleton is None else load_skeleton(options.skeleton)
    results = Results(options.results, skeleton)
    destination = open_destination(options)
    stop = threading.Event()
    with stop_on_signals(stop, signal.SIGINT, signal.SIGTERM):
        try:
            _show(options, results, destination, stop)
        except BaseException:
            destination.abort()
            raise
        interrupted = stop.is_set()
        if options.serve and not interrupted:
            print("all of it is there; Ctrl-C ends the server", flush=True)
            while not stop.wait(0.5):
                pass
    print(destination.close())
    return EXIT_INTERRUPTED if interrupted else 0


def _show(
    options: argparse.Namespace, results: Results, destination: Destination, stop: threading.Event
) -> None:
    from pose_node.viewing.pose_log import PoseLog, ViewedFrame
    from pose_node.viewing.results import CameraNames, FrameImages

    log = PoseLog(
        destination.stream,
        keypoint_threshold=options.keypoint_threshold,
        jpeg_quality=options.jpeg_quality,
    )
    folder = results.path.parent
    images = FrameImages([*options.images, folder, folder.parent], topics=results.topics)
    names = CameraNames()
    try:
        with ProgressLine(results.path.name, unit="frames", rate=True) as progress:
            for frame, skeleton in results:
                if stop.is_set():
                    break
                image = None if options.no_images else images.image(frame)
                viewed = ViewedFrame(
                    camera=names.name(frame),
                    index=frame.index,
                    stamp_ns=frame.stamp_ns,
                    poses=frame.poses,
                    image=image and image[0],
                    channel_order=image[1] if image else "bgr",
                    file=frame.source if frame.stamp_ns is None else "",
                )
                log.write(viewed, skeleton)
                progress(log.num_frames, None)
    finally:
        images.close()
    log.finish()
    for reason in list(images.missing.values())[:5]:
        print(f"pose-node: no image: {reason}", file=sys.stderr)
    if len(images.missing) > 5:
        print(f"pose-node: no images of {len(images.missing)} sources in all", file=sys.stderr)
    if log.num_frames == 0 and not stop.is_set():
        raise PoseNodeError(f"{results.path} is empty")
    print(f"{log.num_frames} frames", flush=True)
