"""Pictures of an evaluation: the worst images, precision over recall, and how well people fit."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from pose_node.drawing import draw_poses
from pose_node.errors import SourceError
from pose_node.evaluation.annotations import AnnotatedImages
from pose_node.evaluation.run import Evaluation
from pose_node.poses import Poses, Skeleton
from pose_node.source_names import shown_name

TILE = 360
"""Width and height of an image of the contact sheet, pixels."""

_ANNOTATED = (255, 255, 255)
_CAPTION = 26
_COLUMNS = 4
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def worst_images(result: Evaluation, count: int) -> list[tuple[str, float]]:
    """File name and OKS of the images whose annotated people are found worst, the worst first."""
    measured = [(name, oks) for name, oks in result.image_oks.items() if oks is not None]
    return sorted(measured, key=lambda entry: (entry[1], entry[0]))[:count]


def contact_sheet(
    result: Evaluation,
    data: AnnotatedImages,
    skeleton: Skeleton,
    *,
    count: int = 12,
    score_threshold: float = 0.3,
) -> np.ndarray:
    """The worst images side by side, with the people found and the annotated keypoints.

    Args:
        result: the evaluation.
        data: the images it was made of.
        skeleton: the model's.
        count: so many images at most.
        score_threshold: people with a lower score are not drawn.

    Returns:
        (H, W, 3) uint8 BGR. White crosses are the annotated keypoints; below each image stand its
        name and its mean OKS.
    """
    worst = worst_images(result, count)
    columns = min(_COLUMNS, max(1, len(worst)))
    rows = max(1, -(-len(worst) // columns))
    sheet = np.full((rows * (TILE + _CAPTION), columns * TILE, 3), 24, np.uint8)
    places = {image["file_name"]: index for index, image in enumerate(data.images)}
    for number, (name, oks) in enumerate(worst):
        index = places[name]
        picture = _annotated(
            data.read(index),
            result.people[name],
            data.keypoints_of(data.images[index]["id"]),
            skeleton,
            score_threshold,
        )
        row, column = divmod(number, columns)
        top, left = row * (TILE + _CAPTION), column * TILE
        height, width = picture.shape[:2]
        y, x = top + (TILE - height) // 2, left + (TILE - width) // 2
        sheet[y : y + height, x : x + width] = picture
        caption = f"OKS {oks:.2f}  {shown_name(name)[-32:]}"
        origin = (left + 6, top + TILE + 18)
        cv2.putText(sheet, caption, origin, _FONT, 0.45, _ANNOTATED, 1, cv2.LINE_AA)
    return sheet


def _annotated(
    image: np.ndarray,
    poses: Poses,
    annotated: np.ndarray,
    skeleton: Skeleton,
    score_threshold: float,
) -> np.ndarray:
    """An image scaled into a tile, drawn on after scaling so that lines stay readable."""
    scale = TILE / max(image.shape[:2])
    size = (max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0])))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    shown = poses.scores >= score_threshold
    keypoints = poses.keypoints[shown].copy()
    keypoints[..., :2] *= scale
    people = Poses.from_arrays(poses.boxes_xyxy[shown] * scale, poses.scores[shown], keypoints)
    picture = draw_poses(small, people, skeleton)
    for x, y, visible in annotated.reshape(-1, 3).tolist():
        if visible > 0:
            at = (round(x * scale - 0.5), round(y * scale - 0.5))
            cv2.drawMarker(picture, at, (0, 0, 0), cv2.MARKER_CROSS, 9, 3)
            cv2.drawMarker(picture, at, _ANNOTATED, cv2.MARKER_CROSS, 7, 1)
    return picture


def precision_recall_figure(results: Mapping[str, Evaluation]) -> Any:
    """Precision over recall of each model, a line for each of `CURVE_THRESHOLDS`.

    Returns:
        A matplotlib figure; see `figure_png`.

    Raises:
        SourceError: matplotlib is not installed.
    """
    figure, axes = _figure("recall", "precision")
    for number, (name, result) in enumerate(results.items()):
        for threshold, style in zip(result.details.precisions, ("-", "--", ":"), strict=True):
            precision = result.details.precisions[threshold]
            if (precision >= 0).all():
                label = f"{name}, OKS {threshold:.2f}: AP {100 * precision.mean():.1f}"
                axes.plot(
                    result.details.recalls, precision, style, color=f"C{number % 10}", label=label
                )
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    _legend(axes)
    return figure


def oks_histogram_figure(results: Mapping[str, Evaluation]) -> Any:
    """How many annotated people have which OKS, for each model; 0 holds those not found.

    Raises:
        SourceError: matplotlib is not installed.
    """
    figure, axes = _figure("OKS of an annotated person", "people")
    edges = np.linspace(0, 1, 21)
    for number, (name, result) in enumerate(results.items()):
        oks = np.concatenate([np.empty(0), *result.details.person_oks.values()])
        counts, _ = np.histogram(np.clip(oks, 0, 1), edges)
        median = f", median {np.median(oks):.2f}" if len(oks) else ""
        axes.stairs(counts, edges, color=f"C{number % 10}", label=f"{name}{median}", linewidth=1.5)
    axes.set(xlim=(0, 1))
    _legend(axes)
    return figure


def figure_png(figure: Any) -> bytes:
    """A matplotlib figure as the content of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()


def image_png(image: np.ndarray) -> bytes:
    """A BGR image as the content of a PNG file."""
    _, content = cv2.imencode(".png", image)
    return content.tobytes()


def require_matplotlib() -> None:
    """See that matplotlib can be imported; better asked before hours of work than after.

    Raises:
        SourceError: it is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise SourceError(
            f"figures need matplotlib ({error}); install it: pip install 'pose-node[evaluate]'"
        ) from error


def _figure(x_label: str, y_label: str) -> tuple[Any, Any]:
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)  # no window, no global state
    axes = figure.add_subplot()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    return figure, axes


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
