"""``pose-node export``: a model for other programs."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose_node import PoseNodeError
from pose_node.arguments import positive, texts
from pose_node.models.catalog import KNOWN_MODELS, SAMPLE_VIDEO
from pose_node.models.fetch import checked_model_path, file_digest, resolve_model
from pose_node.process_settings import tune_process
from pose_node.progress import ProgressLine

if TYPE_CHECKING:
    import numpy as np

    from pose_node.export import Export

_SUFFIXES = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "torchscript": ".torchscript",
    "torch-export": ".pt2",
}
_SEEN = 0.3  # a score from which on somebody is there


def add_export(commands: Any) -> None:
    """Add the parser of the command."""
    parser = commands.add_parser(
        "export",
        help="write a model for other programs (ONNX, OpenVINO, ...)",
        **texts(
            "Write a model, with its decoding, for other programs. The file is run on a picture "
            "and compared with\ntorch before it gets its name: a picture of people tells most.",
            "pose-node export yolo11n-pose",
            "pose-node export yolo11n-pose --dynamic --check-image people.jpg",
            "pose-node export best.pt --format openvino --image-size 384 640",
        ),
    )
    parser.add_argument("model", metavar="MODEL", help="a checkpoint, or a fetched model's name")
    parser.add_argument(
        "--format", choices=tuple(_SUFFIXES), help="by default that of --output's name, else onnx"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the file to write, by default named as MODEL, in the current folder",
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    parser.add_argument(
        "--image-size",
        nargs="+",
        type=positive,
        default=[640],
        metavar="N",
        help="of the input: its side, or height and width (640)",
    )
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="images at once (1)")
    parser.add_argument(
        "--dynamic", action="store_true", help="any number of images of any size instead"
    )
    parser.add_argument(
        "--opset", type=positive, default=17, metavar="N", help="operator set of ONNX (17)"
    )
    parser.add_argument(
        "--end-to-end",
        action=argparse.BooleanOptionalAction,
        help="of YOLO26: without the need to suppress duplicates, or with it",
    )
    parser.add_argument(
        "--activation", choices=("SiLU", "ReLU"), help="of a YOLOX checkpoint, see `models info`"
    )
    parser.add_argument(
        "--check-image",
        metavar="FILE",
        help="picture or video, by default the sample video (`pose-node fetch sample-video`)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-3,
        metavar="PIXELS",
        help="largest difference from torch that is accepted (0.001)",
    )
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for a program"
    )
    parser.set_defaults(command=export, parser=parser)


def export(options: argparse.Namespace) -> int:
    """Write the model and say how exact it is."""
    tune_process()  # before torch is imported
    from pose_node.export import UNKNOWN_LICENCE, export_network
    from pose_node.models import load_network

    source = resolve_model(options.model)
    form, output = _target(options, source)
    if len(options.image_size) > 2:
        options.parser.error("--image-size takes a side, or height and width")
    image, image_name = _check_image(options.check_image)
    known = KNOWN_MODELS.get(options.model)
    network = load_network(source, end_to_end=options.end_to_end, activation=options.activation)
    try:
        with ProgressLine(f"exporting {source.name}", unit="steps") as progress:
            result = export_network(
                network,
                output,
                check_image=image,
                format_name=form,
                image_size=(options.image_size[0], options.image_size[-1]),
                batch=options.batch,
                dynamic=options.dynamic,
                opset=options.opset,
                pixel_tolerance=options.tolerance,
                name=source.stem,
                licence=f"{known.licence} ({known.licence_url})" if known else UNKNOWN_LICENCE,
                progress=progress,
            )
    except ValueError as error:  # an argument out of its range
        options.parser.error(str(error))
    _print(options, form, result, image_name)
    return 0


def _target(options: argparse.Namespace, source: Path) -> tuple[str, Path]:
    """Format and file that are meant."""
    form: str | None = options.format
    if form is None and options.output is not None:
        named = [name for name, suffix in _SUFFIXES.items() if suffix == options.output.suffix]
        if not named:
            options.parser.error(
                f"--output {options.output} names no format: expected an ending of "
                f"{', '.join(_SUFFIXES.values())}, or --format"
            )
        form = named[0]
    form = form or "onnx"
    output: Path = options.output or Path(source.stem + _SUFFIXES[form])
    if output.exists() and not options.force:
        raise PoseNodeError(f"{output} is there already; --force replaces it")
    return form, output


def _check_image(name: str | None) -> tuple[np.ndarray, str]:
    """A picture to compare on, and what it is called."""
    from pose_node.sources import open_source

    if name is None:
        path = checked_model_path(SAMPLE_VIDEO.name)
        if path is None:
            raise PoseNodeError(
                "an export is checked on a real picture: name one of people with --check-image, or "
                f"run `pose-node fetch {SAMPLE_VIDEO.name}`"
            )
        name = str(path)
    with open_source(name) as source:
        for frame in source:
            return frame.image, frame.name
    raise PoseNodeError(f"{name} has no picture to check the export on")


def _print(options: argparse.Namespace, form: str, result: Export, image_name: str) -> None:
    difference = result.difference
    facts = {
        "file": str(result.path),
        "bytes": result.path.stat().st_size,
        "sha256": file_digest(result.path),
        "format": form,
        "layout": result.layout,
        "check_image": image_name,
        **asdict(difference),
    }
    if "json" in options:
        print(json.dumps(facts, indent=2))
        return
    print(f"{result.path}: {form}, layout {result.layout}, SHA-256 {facts['sha256']}")
    sizes = " and ".join(f"{width} x {height}" for width, height in difference.sizes)
    print(
        f"checked on {image_name} at {sizes}: {difference.rows} predictions differ from torch "
        f"({difference.precision}) by at most {difference.pixels:.1g} pixels and "
        f"{difference.scores:.1g} in scores"
    )
    if difference.best_score < _SEEN:
        print(
            f"The model sees nobody in that picture (best score {difference.best_score:.2f}): "
            "--check-image with people would tell more."
        )
    print("The weights keep their own licence; the file's metadata names it as far as it is known.")
