"""What ``pose-node predict`` writes: the outputs that its options ask for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose_node.errors import OutputError, SourceError
from pose_node.idle_options import refuse_idle_options

if TYPE_CHECKING:
    from pose_node.poses import Skeleton
    from pose_node.prediction.outputs import Output

FORMATS = ("jsonl", "csv", "coco", "parquet", "annotated", "bag")


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says what to write, and how."""
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
    parser.add_argument("--show", action="store_true", help="show results in a window as well")
    parser.add_argument(
        "--rerun", action="store_true", help="write DIR/view.rrd for the Rerun viewer as well"
    )


def check_output_options(options: argparse.Namespace) -> None:
    """End with a usage error if an option would do nothing."""
    kinds = set(options.save)
    drawn = "annotated" in kinds or options.rerun or options.show
    for names, used, needed in (
        (["codec"], "annotated" in kinds, "--save annotated"),
        (["keypoint_threshold"], drawn, "--save annotated, --rerun or --show"),
        (["bag_storage", "copy_bag"], "bag" in kinds, "--save bag"),
    ):
        refuse_idle_options(options.parser, options, names, unless=used, needed=needed)


def output_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What the files that are written depend on, besides the people."""
    names = ("skeleton", "codec", "keypoint_threshold", "bag_storage", "copy_bag", "rerun")
    return {"save": sorted(set(options.save)), **{name: getattr(options, name) for name in names}}


def open_outputs(
    options: argparse.Namespace, sources: Sequence[str], skeleton: Skeleton
) -> list[Output]:
    """The outputs, ready to be written to.

    Raises:
        PoseNodeError: one of them cannot be written, or needs what is not installed; the others
            leave nothing behind.
    """
    outputs: list[Output] = []
    try:
        for wanted, make in _makers(options, sources, skeleton):
            if wanted:
                outputs.append(make())
    except BaseException:
        for output in outputs:
            output.abort()
        raise
    return outputs


def _makers(
    options: argparse.Namespace, sources: Sequence[str], skeleton: Skeleton
) -> list[tuple[bool, Callable[[], Any]]]:
    """All kinds of outputs: whether it is wanted, and what makes it."""
    from pose_node.prediction.outputs import CocoResults, Csv, JsonLines

    folder, kinds = options.output, set(options.save)

    def window() -> Output:
        from pose_node.prediction.window import Window

        return Window(skeleton, keypoint_threshold=options.keypoint_threshold)

    def bag() -> Output:
        if options.copy_bag:
            _check_copies(sources)
        from pose_node.prediction.bag_output import BagOutput

        return BagOutput(
            folder / "bags", skeleton, storage=options.bag_storage, copy=options.copy_bag
        )

    def annotated() -> Output:
        from pose_node.prediction.pictures import AnnotatedPictures

        return AnnotatedPictures(
            folder / "annotated",
            skeleton,
            codec=options.codec,
            keypoint_threshold=options.keypoint_threshold,
        )

    def rerun() -> Output:
        from pose_node.viewing.output import RerunOutput

        threshold = options.keypoint_threshold
        return RerunOutput(folder / "view.rrd", skeleton, keypoint_threshold=threshold)

    def parquet() -> Output:
        from pose_node.prediction.parquet_output import Parquet

        return Parquet(folder / "poses.parquet")

    return [
        (options.show, window),
        ("bag" in kinds, bag),
        ("annotated" in kinds, annotated),
        ("jsonl" in kinds, lambda: JsonLines(folder / "poses.jsonl")),
        ("csv" in kinds, lambda: Csv(folder / "poses.csv", skeleton)),
        (options.rerun, rerun),
        ("parquet" in kinds, parquet),
        (
            "coco" in kinds,
            lambda: CocoResults(folder / "coco_results.json", numbered=_have_numbers(sources)),
        ),
    ]


def _check_copies(sources: Sequence[str]) -> None:
    from pose_node.prediction.bags import is_bag
    from pose_node.prediction.recordings import is_live

    for source in sources:
        path = Path(source)
        if is_live(source) or (
            path.exists() and not is_bag(path)
        ):  # what is not there is reported as every other is
            raise OutputError(f"--copy-bag: only bags can be copied, {source} is none")
        if path.suffix == ".bag":
            raise OutputError(
                f"--copy-bag: {source} is a bag of ROS 1, whose messages cannot be copied as is"
            )


def _have_numbers(sources: Sequence[str]) -> bool:
    """Whether all sources are images whose names are different numbers, as COCO's are."""
    from pose_node.sources import find_images

    names: list[str] = []
    for source in sources:
        try:
            names += [path.stem for path in find_images(source)]
        except (SourceError, OSError):
            if _is_there(source):  # a video, say; what is missing gives no frames
                return False
    numbers = {int(name) for name in names if name.isdecimal()}
    return 0 < len(names) == len(numbers)


def _is_there(source: str) -> bool:
    from pose_node.prediction.recordings import is_live

    try:
        return is_live(source) or Path(source).exists()
    except OSError:  # no name that a file can have
        return False
