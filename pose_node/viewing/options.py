"""Options of ``pose-node view``, for results and for running nodes: where to show, and how."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pose_node.idle_options import refuse_idle_options
from pose_node.viewing.destinations import Destination, File, Ports, Server, Window


def add_view_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what results and running nodes have in common: where to show, and how."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--save", type=Path, metavar="FILE.rrd", help="write a recording (default: open a window)"
    )
    where.add_argument("--serve", action="store_true", help="serve to browsers until Ctrl-C")
    parser.add_argument(
        "--host",
        default="localhost",
        metavar="NAME",
        help="what browsers call this machine, with --serve (localhost)",
    )
    port: dict[str, Any] = {"type": _port, "metavar": "N"}
    parser.add_argument("--port", default=9090, help="of the page, with --serve (9090)", **port)
    parser.add_argument("--data-port", default=9876, help="of its data (9876)", **port)
    parser.add_argument(
        "--memory",
        default="1GiB",
        metavar="SIZE",
        help="what the server or the window keeps, the oldest is dropped (1GiB)",
    )
    parser.add_argument(
        "--keypoint-threshold",
        type=float,
        default=0.5,
        metavar="X",
        help="keypoints below are not shown (0.5)",
    )
    parser.add_argument(
        "--jpeg-quality", type=_quality, default=80, metavar="Q", help="of images (80)"
    )


def check_view_arguments(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with a usage error if one of them would do nothing."""
    names = ["host", "port", "data_port"]
    refuse_idle_options(parser, options, names, unless=options.serve, needed="--serve")
    kept = options.save is None
    refuse_idle_options(parser, options, ["memory"], unless=kept, needed="a window or --serve")


def open_destination(options: argparse.Namespace) -> Destination:
    """Where `add_view_arguments` says.

    Raises:
        PoseNodeError: it cannot be opened.
    """
    if options.save is not None:
        return File(options.save)
    if options.serve:
        ports = Ports(options.port, options.data_port)
        server = Server(ports, host=options.host, memory=options.memory)
        print(f"open {server.address} in a browser", flush=True)
        return server
    return Window(memory=options.memory)


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"expected 1 to 65535, got {value}")
    return value


def _quality(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected 1 to 100, got {value}")
    return value
