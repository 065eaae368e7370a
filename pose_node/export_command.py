"""``pose-node export``: a model for other programs."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
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
    from pose_node.models import PoseNetwork

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
            "pose-node export yolo11n-pose --dynamic --int8 my_images/ drive.mp4",
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
    parser.add_argument(
        "--int8",
        nargs="+",
        metavar="SOURCE",
        help="OpenVINO with numbers of 8 bits: twice as fast on most processors, a little less "
        "exact; measured on images, folders or videos like those to come (some hundred images)",
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
    inputs = _calibration_inputs(options, network) if options.int8 else []
    try:
        with (
            _in_float32(output, bool(inputs)) as exported,
            ProgressLine(f"exporting {source.name}", unit="steps") as progress,
        ):
            result = export_network(
                network,
                exported,
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
            if inputs:
                _quantize(exported, output, inputs, network.preprocessing.scale)
                result = replace(result, path=output)
    except ValueError as error:  # an argument out of its range
        options.parser.error(str(error))
    _print(options, form, result, image_name, len(inputs))
    return 0


@contextlib.contextmanager
def _in_float32(output: Path, temporary: bool) -> Iterator[Path]:
    """Where the network in float32 is written: to its place, or where it is only needed for now."""
    if not temporary:
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="pose_node_") as folder:
        yield Path(folder) / output.name


def _calibration_inputs(options: argparse.Namespace, network: PoseNetwork) -> list[np.ndarray]:
    from pose_node.exporting.quantization import calibration_inputs
    from pose_node.sources import open_source

    def images(progress: ProgressLine) -> Iterator[np.ndarray]:
        number = 0
        for name in options.int8:
            with open_source(name) as source:
                for frame in source:
                    number += 1
                    progress(number, None)
                    yield frame.image

    with ProgressLine("reading images", unit="images") as progress:
        return calibration_inputs(
            images(progress),
            network.preprocessing,
            stride=network.stride,
            image_size=(options.image_size[0], options.image_size[-1]),
            dynamic=options.dynamic,
        )


def _quantize(exported: Path, output: Path, inputs: list[np.ndarray], scale: float) -> None:
    from pose_node.exporting.quantization import quantize_openvino

    with ProgressLine("measuring ranges", unit="images", rate=True) as progress:
        quantize_openvino(exported, output, inputs, scale=scale, progress=progress)


def _target(options: argparse.Namespace, source: Path) -> tuple[str, Path]:
    """Format and file that are meant."""
    form: str | None = "openvino" if options.int8 and not options.format else options.format
    if options.int8 and options.batch > 1 and not options.dynamic:
        options.parser.error("--int8 is for one image at once, or with --dynamic for any number")
    if options.int8 and form != "openvino":
        options.parser.error(f"--int8 is for --format openvino, got {form}")
    if form is None and options.output is not None:
        named = [name for name, suffix in _SUFFIXES.items() if suffix == options.output.suffix]
        if not named:
            options.parser.error(
                f"--output {options.output} names no format: expected an ending of "
                f"{', '.join(_SUFFIXES.values())}, or --format"
            )
        form = named[0]
    form = form or "onnx"
    stem = f"{source.stem}-int8" if options.int8 else source.stem
    output: Path = options.output or Path(stem + _SUFFIXES[form])
    if output.exists() and not options.force:
        raise PoseNodeError(f"{output} is there already; --force replaces it")
    if not output.parent.is_dir():  # said before the work is done
        raise PoseNodeError(f"cannot write {output}: there is no folder {output.parent}; make it")
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


def _print(
    options: argparse.Namespace, form: str, result: Export, image_name: str, num_calibration: int
) -> None:
    difference = result.difference
    facts = {
        "file": str(result.path),
        "bytes": result.path.stat().st_size,
        "sha256": file_digest(result.path),
        "format": form,
        "layout": result.layout,
        "check_image": image_name,
        **asdict(difference),
        "int8_images": num_calibration,
    }
    if "json" in options:
        print(json.dumps(facts, indent=2))
        return
    print(f"{result.path}: {form}, layout {result.layout}, SHA-256 {facts['sha256']}")
    sizes = " and ".join(f"{width} x {height}" for width, height in difference.sizes)
    print(
        f"checked on {image_name} at {sizes}{', in float32' if num_calibration else ''}: "
        f"{difference.rows} predictions differ from torch ({difference.precision}) by at most "
        f"{difference.pixels:.1g} pixels and {difference.scores:.1g} in scores"
    )
    if num_calibration:
        print(
            f"8 bits, measured on {num_calibration} images. What that costs in accuracy: "
            f"`pose-node evaluate --model {options.model} {result.path} --images DIR "
            "--annotations JSON`"
        )
    if difference.best_score < _SEEN:
        print(
            f"The model sees nobody in that picture (best score {difference.best_score:.2f}): "
            "--check-image with people would tell more."
        )
    print("The weights keep their own licence; the file's metadata names it as far as it is known.")
