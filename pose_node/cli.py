"""The ``pose-node`` command.

Everything heavy is imported by the subcommand that needs it: help, ``fetch`` and ``models`` need
neither torch nor ROS.
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pose_node import PoseNodeError, __version__
from pose_node.arguments import texts
from pose_node.commands import convert_model, fetch, list_models, model_info
from pose_node.evaluate_command import add_evaluate
from pose_node.export_command import add_export
from pose_node.predict_command import add_predict
from pose_node.ros.entry import end_quietly, start
from pose_node.view_command import add_view

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # as shells report Ctrl-C

_ROS_COMMANDS = {
    "run": "the node: camera images in, poses out",
    "camera": "publish a video, webcam, image or folder as a camera",
    "demo": "camera, node and a printout, on a sample video",
    "exercise": "count repetitions of exercises of everybody in view",
}

_RUN_HELP = """\
usage: pose-node run [--log-level debug|info|warn|error] [--ros-args ...]

Run the node: it subscribes to image_raw, finds the people in every image, and publishes poses and,
while somebody looks, image_annotated. It takes the arguments of every ROS 2 node.

examples:
  pose-node run
  pose-node run --ros-args -p model:=yolo11n-pose -p device:=cpu
  pose-node run --ros-args -r image_raw:=/camera/image_raw -p score_threshold:=0.5
  pose-node run --log-level warn --ros-args --params-file pose_node.yaml

config/pose_node.yaml names every parameter with its default and its range.
"""


class _LogLines(logging.Handler):
    """One line on stderr for each record."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"pose-node: {record.getMessage()}", file=sys.stderr)


def _show_log() -> None:
    """Show what the package logs, such as an export on first use."""
    logger = logging.getLogger("pose_node")
    if not any(isinstance(handler, _LogLines) for handler in logger.handlers):
        logger.addHandler(_LogLines())
        logger.setLevel(logging.INFO)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        args: the command line without the program's name; by default that of this process.

    Returns:
        The exit code: 0 for success, 1 for an error (one line on stderr says which), 2 for a wrong
        command line, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files that are no UTF-8
    try:
        if arguments and arguments[0] in _ROS_COMMANDS:
            return _run_ros(arguments[0], arguments[1:])
        if arguments[:1] == ["view"] and "--live" in arguments:
            return _run_ros("view --live", arguments[1:])
        _show_log()
        options = _parser().parse_args(arguments)
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except PoseNodeError as error:
        print(f"pose-node: error: {error}", file=sys.stderr)
        return EXIT_ERROR
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors"):  # anything else is a fault of ours
            raise
        print(
            f"pose-node: error: the Python package {error.name} is missing: "
            "`pip install torch safetensors`, see the README",
            file=sys.stderr,
        )
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough, for example `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except SystemExit as leaving:  # argparse
        return leaving.code if isinstance(leaving.code, int) else EXIT_USAGE


# --- The command line ---------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pose-node",
        **texts(
            "People in camera images: YOLO-Pose networks for ROS 2.",
            "pose-node fetch yolo11n-pose",
            "pose-node demo",
            "pose-node camera video.mp4",
            "pose-node fetch --help",
        ),
    )
    parser.add_argument("--version", action="version", version=f"pose-node {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in _ROS_COMMANDS.items():
        commands.add_parser(name, help=f"{summary} (ROS 2)")  # for the list; main() runs them
    _add_fetch(commands)
    _add_models(commands)
    add_predict(commands)
    add_view(commands)
    add_evaluate(commands)
    add_export(commands)
    return parser


def _add_fetch(commands: Any) -> None:
    parser = commands.add_parser(
        "fetch",
        help="download a model by name",
        **texts(
            "Download a model, or the sample video, into the cache ($XDG_CACHE_HOME/pose_node, by "
            "default\n~/.cache/pose_node). Every file is checked against its SHA-256. Running it "
            "again completes\na download that was cut, and does nothing when the file is there.",
            "pose-node fetch yolo11n-pose",
            "pose-node fetch yolov8s-pose yolov8m-pose",
            "pose-node fetch yolo11x-pose --sha256 0123...",
        ),
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="see `pose-node models`")
    parser.add_argument("--url", help="download from this address instead (https); one NAME only")
    parser.add_argument(
        "--sha256", metavar="HEX", help="the digest that the publisher states, where none is known"
    )
    parser.add_argument(
        "--trust-first-download",
        action="store_true",
        help="where no digest is known, take what comes and check later downloads against it",
    )
    _add_json(parser)
    parser.set_defaults(command=fetch, parser=parser)


def _add_models(commands: Any) -> None:
    parser = commands.add_parser(
        "models",
        help="list, inspect and convert models",
        **texts(
            "List the known models, look into a model file, or convert one to the native format.",
            "pose-node models",
            "pose-node models info yolo11n-pose",
            "pose-node models convert best.pt best.safetensors",
        ),
    )
    _add_json(parser)
    parser.set_defaults(command=list_models)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")

    listing = actions.add_parser("list", help="the known models (the default)")
    _add_json(listing)
    listing.set_defaults(command=list_models)

    info = actions.add_parser("info", help="what is in a model file")
    info.add_argument("model", metavar="FILE", help="a model file, or the name of a fetched model")
    _add_activation(info)
    _add_json(info)
    info.set_defaults(command=model_info)

    convert = actions.add_parser(
        "convert", help="write a checkpoint in the native format, safetensors"
    )
    convert.add_argument("model", metavar="FILE", help="a checkpoint, or a fetched model's name")
    convert.add_argument(
        "output",
        metavar="OUT.safetensors",
        nargs="?",
        type=Path,
        help="the file to write, by default named as FILE, in the current folder",
    )
    _add_activation(convert)
    convert.add_argument("--force", action="store_true", help="replace OUT if it is there")
    convert.set_defaults(command=convert_model)


def _add_activation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--activation",
        choices=("SiLU", "ReLU"),
        help="of a YOLOX checkpoint, which does not record it; by default that of the published "
        "network with the same layers",
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    # SUPPRESS: an action's default must not undo what was said before it.
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for a program"
    )


# --- ROS ----------------------------------------------------------------------------------------


def _run_ros(command: str, arguments: list[str]) -> int:
    """Hand over to a ROS process, with all its arguments."""
    if command == "run" and {"-h", "--help"} & set(arguments):
        print(_RUN_HELP, end="")
        return 0
    end_quietly(command)
    for needed, remedy in (
        ("rclpy", "source your ROS 2 (source /opt/ros/<distribution>/setup.bash)"),
        ("pose_node.msg", "build the package (colcon build, or scripts/setup) and source it"),
    ):
        try:
            importlib.import_module(needed)
        except ImportError as error:
            raise PoseNodeError(
                f"`pose-node {command}` needs {needed}, which cannot be imported ({error}); "
                f"{remedy}, or run `make setup` in the sources and use .venv/bin/pose-node"
            ) from error
    return start(command, arguments)
