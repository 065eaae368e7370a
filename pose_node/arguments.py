"""What the parsers of several subcommands share. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pose_node.inference.engine import PoseEngine

ENGINE_SETTINGS = (
    *("image_size", "score_threshold", "iou_threshold", "max_people", "half", "backend", "threads"),
)
"""Arguments of `add_engine_arguments` that are arguments of `PoseEngine.load` and plain values."""


def texts(description: str, *examples: str) -> dict[str, Any]:
    """What a parser says above and below its arguments."""
    return {
        "description": description,
        "epilog": "examples:\n" + "\n".join(f"  {example}" for example in examples),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


def add_engine_arguments(
    parser: argparse.ArgumentParser,
    *,
    score_threshold: float,
    iou_threshold: float,
    max_people: int,
    backend: str = "auto",
) -> None:
    """Add what `PoseEngine.load` takes besides the model, with these defaults."""
    number: dict[str, Any] = {"type": float, "metavar": "X"}
    parser.add_argument(
        "--score-threshold",
        default=score_threshold,
        help=f"people at or below are dropped ({score_threshold})",
        **number,
    )
    parser.add_argument(
        "--iou-threshold",
        default=iou_threshold,
        help=f"boxes overlapping more are one person ({iou_threshold})",
        **number,
    )
    count: dict[str, Any] = {"type": positive, "metavar": "N"}
    parser.add_argument(
        "--max-people", default=max_people, help=f"of an image ({max_people})", **count
    )
    parser.add_argument(
        "--image-size", default=640, help="longer side of the network's input (640)", **count
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    parser.add_argument(
        "--half",
        action="store_true",
        help="compute in 16 bits: float16 on a GPU; on a CPU that has it bfloat16, with --backend "
        "openvino or auto",
    )
    parser.add_argument(
        "--backend",
        default=backend,
        choices=("auto", "torch", "openvino", "onnxruntime"),
        help=f"what runs the network; auto takes the fastest that is installed ({backend})",
    )
    parser.add_argument(
        "--threads", help="of the network on the CPU (as many as there are processors)", **count
    )
    parser.add_argument(
        "--skeleton",
        metavar="NAME|YAML",
        help="what the keypoints are (by default from their number)",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="CLASS",
        help="of a model with several: only these, names or numbers",
    )


def engine_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of `PoseEngine.load`, apart from the model."""
    classes: Sequence[int | str] | None = options.classes and [
        int(name) if name.isdecimal() else name for name in options.classes
    ]
    return {
        "device": options.device,
        "skeleton": options.skeleton,
        "classes": classes,
        **{name: getattr(options, name) for name in ENGINE_SETTINGS},
    }


def load_engine(options: argparse.Namespace, model: Any) -> PoseEngine:
    """The engine of a model with the settings of the command line; a wrong one is a usage error.

    Raises:
        PoseNodeError: the model or the device cannot be used.
    """
    from pose_node import PoseEngine

    try:
        return PoseEngine.load(model, **engine_arguments(options))
    except ValueError as error:  # a setting out of its range
        options.parser.error(str(error))
        raise AssertionError("error() leaves") from error
