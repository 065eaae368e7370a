"""The COCO keypoint statistics, as pycocotools computes them, and what lies behind them.

The measure is that of the COCO keypoint challenge (https://cocodataset.org/#keypoints-eval):
average precision and recall over object keypoint similarity (OKS), where of each image at most the
20 best-scored people count.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pose_node.errors import SourceError
from pose_node.poses import Poses

STATISTICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
"""The ten statistics in COCO's order: average precision (AP) and recall (AR) over OKS 0.50 to 0.95,
at OKS 0.50 and 0.75, and for people of medium (32^2 to 96^2 pixels) and large area."""

CURVE_THRESHOLDS = (0.5, 0.75, 0.9)
"""The OKS thresholds of the precision curves in `KeypointStatistics`."""

MAX_COUNTED = 20
"""So many people of an image, best first, enter the statistics (COCO's maxDets)."""

Json = dict[str, Any]


@dataclass(frozen=True)
class KeypointStatistics:
    """The ten statistics and what they come from.

    Attributes:
        values: `STATISTICS` by name, 0 to 1; -1 where there is nothing to measure.
        recalls: (101,) the recalls 0, 0.01 ... 1 at which the curves are given.
        precisions: for each of `CURVE_THRESHOLDS`, (101,) the precision at these recalls.
        person_oks: for each image id, the OKS of each of its annotated people (crowds and people
            without keypoints not counted) with the person found that fits best; each one found
            counts once. 0 for those not found. Without annotated people, an empty array.
    """

    values: dict[str, float]
    recalls: np.ndarray
    precisions: dict[float, np.ndarray]
    person_oks: dict[int, np.ndarray]


def coco_results(poses: Poses, image_id: int, *, category_id: int = 1) -> list[Json]:
    """People as rows of a COCO results file, as loaders of such files expect them.

    Args:
        poses: the people of one image, in pixels of that image.
        image_id: its id in the annotations.
        category_id: id of the category of people there.

    Returns:
        For each person ``image_id``, ``category_id``, ``score`` and ``keypoints``: x, y and score
        of each, one after the other.
    """
    return [
        {
            "image_id": image_id,
            "category_id": category_id,
            "score": float(score),
            "keypoints": [float(value) for value in keypoints.ravel()],
        }
        for score, keypoints in zip(poses.scores, poses.keypoints, strict=True)
    ]


def evaluate_keypoints(
    annotations: Json,
    results: Sequence[Json],
    *,
    image_ids: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
) -> dict[str, float]:
    """The ten COCO keypoint statistics.

    Args:
        annotations: the content of a COCO keypoint annotation file.
        results: rows as `coco_results` makes them.
        image_ids: the images to count, by default all.
        sigmas: OKS falloff of each keypoint, by default those of COCO's 17.

    Returns:
        `STATISTICS` by name, 0 to 1; -1 where no annotated person is left to measure.

    Raises:
        SourceError: pycocotools is not installed.
    """
    return keypoint_statistics(annotations, results, image_ids=image_ids, sigmas=sigmas).values


def keypoint_statistics(
    annotations: Json,
    results: Sequence[Json],
    *,
    image_ids: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
) -> KeypointStatistics:
    """As `evaluate_keypoints`, with the curves and the OKS of every annotated person."""
    require_pycocotools()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it tells its story on stdout
        truth = COCO()
        truth.dataset = copy.deepcopy(annotations)  # it adds to what it gets
        truth.createIndex()
        if results:
            found = truth.loadRes(copy.deepcopy(list(results)))
        else:
            found = COCO()
            found.dataset = {**annotations, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "keypoints")
        if image_ids is not None:
            evaluation.params.imgIds = sorted(image_ids)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return KeypointStatistics(
        values=dict(zip(STATISTICS, map(float, evaluation.stats), strict=True)),
        recalls=np.asarray(evaluation.params.recThrs),
        precisions=_precision_curves(evaluation),
        person_oks=_person_oks(evaluation),
    )


def require_pycocotools() -> None:
    """See that pycocotools can be imported; better asked before hours of work than after.

    Raises:
        SourceError: it is not installed.
    """
    try:
        import pycocotools.coco
        import pycocotools.cocoeval  # noqa: F401
    except ImportError as error:
        raise SourceError(
            f"evaluation needs pycocotools ({error}); install it (pip install pycocotools)"
        ) from error


def _precision_curves(evaluation: Any) -> dict[float, np.ndarray]:
    """Precision over recall for people of all areas; mean of the categories that have people."""
    thresholds = evaluation.params.iouThrs
    curves = {}
    for wanted in CURVE_THRESHOLDS:
        index = int(np.argmin(np.abs(thresholds - wanted)))
        # (thresholds, recalls, categories, areas, numbers of people)
        curve = evaluation.eval["precision"][index, :, :, 0, -1]
        used = curve[:, (curve > -1).all(axis=0)]
        curves[wanted] = used.mean(axis=1) if used.size else np.full(len(curve), -1.0)
    return curves


def _person_oks(evaluation: Any) -> dict[int, np.ndarray]:
    found: dict[int, np.ndarray] = {}
    for image_id in evaluation.params.imgIds:
        parts = [np.empty(0)]
        for category_id in evaluation.params.catIds:
            annotated = evaluation._gts[image_id, category_id]
            # pycocotools sets `ignore` for crowds and for people without keypoints.
            counted = [index for index, person in enumerate(annotated) if not person["ignore"]]
            similarity = evaluation.ious[image_id, category_id]
            if len(similarity):  # (found, annotated)
                parts.append(best_pairs(np.asarray(similarity)[:, counted]))
            else:
                parts.append(np.zeros(len(counted)))
        found[image_id] = np.concatenate(parts)
    return found


def best_pairs(similarity: np.ndarray) -> np.ndarray:
    """The similarity of each column with its row, where the best pairs are taken first.

    Args:
        similarity: (found, annotated).

    Returns:
        (annotated,), 0 for columns that no row is left for.
    """
    rows_free = np.ones(similarity.shape[0], bool)
    best = np.zeros(similarity.shape[1])
    taken = np.zeros(similarity.shape[1], bool)
    for flat in np.argsort(-similarity, axis=None, kind="stable"):
        row, column = np.unravel_index(flat, similarity.shape)
        if rows_free[row] and not taken[column]:
            best[column] = similarity[row, column]
            rows_free[row], taken[column] = False, True
    return best
