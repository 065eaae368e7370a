"""What the subcommands of ``pose-node`` that need no ROS do, given their parsed arguments.

Each returns the exit code. torch is imported only by those that run or read a network.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose_node import PoseNodeError
from pose_node.models.catalog import KNOWN_FILES, KNOWN_MODELS, KnownModel, find, licence_note
from pose_node.models.fetch import (
    cached_model_path,
    checked_model_path,
    fetch_model,
    file_digest,
    known_digest,
    resolve_model,
)
from pose_node.progress import ProgressLine

if TYPE_CHECKING:
    pass


def fetch(options: argparse.Namespace) -> int:
    """Put files into the cache."""
    if len(options.names) > 1 and (options.url or options.sha256):
        options.parser.error("--url and --sha256 belong to one file: give one NAME")
    results = []
    for name in options.names:
        file = find(name)
        already_there = checked_model_path(name) is not None
        with ProgressLine(f"fetching {name}", unit="bytes") as progress:
            path = fetch_model(
                name,
                progress=progress,
                url=options.url,
                sha256=options.sha256,
                trust_first_download=options.trust_first_download,
            )
        digest = known_digest(name)
        results.append(
            {
                "name": name,
                "path": str(path),
                "sha256": digest,
                "fetched": not already_there,
                "licence": file.licence,
                "licence_url": file.licence_url,
            }
        )
        if "json" not in options:
            state = "already there, checked" if already_there else "fetched and checked"
            if not already_there and file.sha256 is None and options.sha256 is None:
                state = f"fetched and trusted as it came, SHA-256 {digest}"
            print(f"{name}: {state}: {path}")
            print(licence_note(file))
    if "json" in options:
        print(json.dumps(results, indent=2))
    return 0


def list_models(options: argparse.Namespace) -> int:
    """Print the known models."""
    cached = {name: cached_model_path(name).is_file() for name in KNOWN_FILES}
    if "json" in options:
        print(json.dumps([_describe(m, cached[m.name]) for m in KNOWN_MODELS.values()], indent=2))
        return 0
    rows = [("name", "family", "size", "parameters", "input", "AP", "licence", "cached")]
    rows += [
        (
            *(model.name, model.family, model.size, f"{model.parameters / 1e6:.1f} M"),
            *(str(model.input_size), f"{100 * model.ap:.1f}" if model.ap else "-", model.licence),
            "yes" if cached[model.name] else "no",
        )
        for model in KNOWN_MODELS.values()
    ]
    print_table(rows, right_aligned={3, 4, 5})
    sources: dict[str, list[str]] = {}
    for model in KNOWN_MODELS.values():
        families = sources.setdefault(model.accuracy_source, [])
        families += [] if model.family in families else [model.family]
    print("\nAP: keypoint AP in percent as published, - where none is:")
    for source, families in sources.items():
        if source:
            print(f"  {', '.join(families)}: {source}")
    print("`pose-node fetch NAME` downloads one.")
    return 0


def _describe(model: KnownModel, cached: bool) -> dict[str, Any]:
    return {
        "name": model.name,
        "family": model.family,
        "size": model.size,
        "parameters": model.parameters,
        "input_size": model.input_size,
        "ap": model.ap,
        "ap50": model.ap50,
        "accuracy_source": model.accuracy_source,
        "licence": model.licence,
        "sha256": model.sha256,
        "cached": cached,
        "path": str(cached_model_path(model.name)),
    }


def model_info(options: argparse.Namespace) -> int:
    """Print what is in a model file."""
    path = resolve_model(options.model)
    facts: dict[str, Any] = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": file_digest(path),
        **_inspect(path, options.activation),
    }
    if "json" in options:
        print(json.dumps(facts, indent=2))
        return 0
    unusual = facts.pop("unusual", [])
    for name, value in facts.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        print(f"{name.replace('_', ' ') + ':':22}{text}")
    for remark in unusual:
        print(f"unusual: {remark}")
    return 0


def _inspect(path: Path, activation: str | None) -> dict[str, Any]:
    from pose_node.inference.networks import EXPORTED_SUFFIXES, load_exported

    if path.suffix in EXPORTED_SUFFIXES:
        network = load_exported(path)
        return {
            "family": network.family,
            "layout": network.layout,
            "strides": list(network.strides),
            "keypoints": network.num_keypoints,
            "keypoint_dimensions": network.keypoint_dimensions,
            "classes": network.num_classes,
            "class_names": list(network.class_names),
            "input_size": list(network.input_size or ()) or "any",
            "suppression": "done in the file" if network.end_to_end else "needed",
            "channel_order": network.preprocessing.channel_order,
        }
    from pose_node.models import load_network
    from pose_node.models.inspection import inspect

    return inspect(load_network(path, activation=activation))


def convert_model(options: argparse.Namespace) -> int:
    """Write a checkpoint in the native format."""
    from pose_node.models import load_network
    from pose_node.models.native import assert_same_outputs, save_network

    source = resolve_model(options.model)
    output: Path = options.output or Path(source.with_suffix(".safetensors").name)
    if output.exists() and not options.force:
        raise PoseNodeError(f"{output} is there already; --force replaces it")
    network = load_network(source, activation=options.activation)
    save_network(network, output)
    try:
        assert_same_outputs(network, load_network(output))
    except PoseNodeError:
        output.unlink()
        raise
    print(f"{output}: {output.stat().st_size} bytes, SHA-256 {file_digest(output)}")
    print("read back: identical outputs")
    return 0


def print_table(rows: Sequence[tuple[str, ...]], *, right_aligned: set[int]) -> None:
    """Print rows of text in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if index in right_aligned else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
