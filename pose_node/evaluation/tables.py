"""Evaluations as tables and files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pose_node.evaluation.run import Evaluation
from pose_node.evaluation.statistics import STATISTICS
from pose_node.output_files import write_whole


def comparison_rows(results: Mapping[str, Evaluation | str]) -> list[tuple[str, ...]]:
    """A head and a row for each model, as text.

    Args:
        results: what was found for each model by name, or why nothing could be found.

    Returns:
        The statistics in percent with one digit ("-" where there is nothing to measure),
        milliseconds of the engine for an image and images in a second.
    """
    names: list[str] = []  # CrowdPose brings more than ten
    for result in results.values():
        if isinstance(result, Evaluation):
            names += [name for name in result.statistics if name not in names]
    names = names or list(STATISTICS)  # of which all failed
    rows: list[tuple[str, ...]] = [("model", *names, "ms/image", "images/s")]
    for model, result in results.items():
        if isinstance(result, str):
            rows.append((model, *["failed"] * len(names), "-", "-"))
            continue
        values = [result.statistics.get(name, -1.0) for name in names]
        rows.append(
            (
                model,
                *("-" if value < 0 else f"{100 * value:.1f}" for value in values),
                f"{sum(result.stage_milliseconds.values()):.1f}",
                f"{result.images_per_second:.1f}",
            )
        )
    return rows


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as a Markdown table; the first row is the head, all but the first column right.

    Raises:
        ValueError: the rows do not all have the same number of cells.
    """
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"expected rows of one length, got {[len(row) for row in rows]}")
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(*escaped, strict=True)]
    lines = [
        "| "
        + " | ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in escaped
    ]
    rule = "|".join(
        "-" * (width + 1) + ":" if index else "-" * (width + 2)
        for index, width in enumerate(widths)
    )
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]]) + "\n"


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, complete or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    write_whole(path, (json.dumps(value, indent=2) + "\n").encode())
