"""Curves, the OKS of single people, statistics on real images, and CrowdPose's annotations."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose_node.errors import SourceError
from pose_node.evaluation import STATISTICS, AnnotatedImages, coco_results, evaluate_engine
from pose_node.evaluation.statistics import MAX_COUNTED, best_pairs, keypoint_statistics
from pose_node.poses import COCO17, Poses, Skeleton
from pose_node.skeletons import load_skeleton

pytest.importorskip("pycocotools", reason="pycocotools missing: pip install pycocotools")

SKELETONS = Path(__file__).resolve().parents[2] / "config/skeletons"


class Replay:
    """Gives the people that it is told, image after image."""

    stage_times: dict[str, float] = {}  # noqa: RUF012

    def __init__(self, people: Sequence[Poses], skeleton: Skeleton) -> None:
        self.people = list(people)
        self.skeleton = skeleton
        self.num_keypoints = skeleton.num_keypoints

    def __call__(self, images: Sequence[np.ndarray]) -> list[Poses]:
        return [self.people.pop(0) for _ in images]


def test_the_best_pairs_come_first() -> None:
    similarity = np.array([[0.9, 0.8, 0.1], [0.85, 0.2, 0.1]])
    assert best_pairs(similarity).tolist() == [0.9, 0.2, 0]
    assert best_pairs(np.empty((0, 2))).tolist() == [0, 0]
    assert best_pairs(np.empty((2, 0))).tolist() == []


def test_statistics_on_real_images_are_those_of_pycocotools_by_hand(shared: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = shared / "data/coco"
    reference = json.loads((coco / "reference_yolo11n_pose.json").read_text())["images"]
    data = AnnotatedImages.open(coco / "val2017", coco / "annotations.json")
    people = [
        Poses.from_arrays(
            np.reshape(found["boxes_xyxy"], (-1, 4)),
            found["scores"],
            np.reshape(found["keypoints"], (-1, 17, 3)),
        )
        for path in data.paths
        for found in [reference[path.name]]
    ]
    result = evaluate_engine(Replay(people, COCO17), data)

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(coco / "annotations.json"))
        rows = [
            row
            for image, poses in zip(data.images, people, strict=True)
            for row in coco_results(poses, image["id"])
        ]
        by_hand = COCOeval(truth, truth.loadRes(rows), "keypoints")
        by_hand.evaluate()
        by_hand.accumulate()
        by_hand.summarize()
    expected = dict(zip(STATISTICS, by_hand.stats, strict=True))
    assert result.statistics == pytest.approx(expected, abs=1e-6)
    assert result.statistics["AP"] > 0.4
    for threshold, statistic in ((0.5, "AP50"), (0.75, "AP75")):
        assert result.details.precisions[threshold].mean() == pytest.approx(expected[statistic])
    everybody = np.concatenate(list(result.details.person_oks.values()))
    assert len(everybody) == result.annotated_people
    # Of those that COCO counts as found at 0.5 by matching, the best pairs miss nobody.
    assert (everybody >= 0.5).mean() >= expected["AR50"] - 1e-9


def crowd_pose(folder: Path, *, crowding: float) -> AnnotatedImages:
    """One person of 14 keypoints in each of three images, as CrowdPose writes them."""
    keypoints = np.stack([np.arange(14) * 4 + 20, np.arange(14) * 3 + 30, np.full(14, 2)], axis=1)
    images, people = [], []
    for number in (1, 2, 3):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((120, 160, 3), np.uint8))
        name = f"{number}.png"
        images.append({"id": number, "file_name": name, "crowdIndex": crowding * number})
        people.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [10, 20, 80, 60]}
            | {"keypoints": keypoints.ravel().tolist(), "num_keypoints": 14, "iscrowd": 0}
        )
    names = load_skeleton(SKELETONS / "crowdpose14.yaml").keypoint_names
    category = {"id": 1, "name": "person", "keypoints": names}
    file = folder / "crowdpose.json"
    file.write_text(json.dumps({"images": images, "annotations": people, "categories": [category]}))
    return AnnotatedImages.open(folder, file)


def test_crowd_pose_without_areas_and_with_its_levels(tmp_path: Path) -> None:
    data = crowd_pose(tmp_path, crowding=0.33)
    for person in data.annotations["annotations"]:
        assert person["area"] == pytest.approx(0.53 * 4800)
    keypoints = np.stack([np.arange(14) * 4 + 20, np.arange(14) * 3 + 30, np.ones(14)], axis=1)
    right = Poses.from_arrays([[10, 20, 90, 80]], [0.9], keypoints[None])
    skeleton = load_skeleton(SKELETONS / "crowdpose14.yaml")
    result = evaluate_engine(Replay([right, right, Poses.empty(14)], skeleton), data)
    levels = {name: result.statistics[name] for name in ("APeasy", "APmedium", "APhard")}
    assert levels == {"APeasy": -1, "APmedium": pytest.approx(1), "APhard": 0}
    assert list(result.statistics)[:10] == list(STATISTICS)


def test_the_falloffs_are_those_of_the_skeleton(tmp_path: Path) -> None:
    data = crowd_pose(tmp_path, crowding=0.1)
    keypoints = np.stack([np.arange(14) * 4 + 23, np.arange(14) * 3 + 30, np.ones(14)], axis=1)
    shifted = Poses.from_arrays([[10, 20, 90, 80]], [0.9], keypoints[None])
    names = tuple("abcdefghijklmn")
    wide, narrow = (
        Skeleton("s", names, (), tuple(range(14)), (sigma,) * 14) for sigma in (0.5, 0.01)
    )
    for skeleton, expected in ((wide, 1), (narrow, 0)):
        result = evaluate_engine(Replay([shifted] * 3, skeleton), data)
        assert result.statistics["AP"] == pytest.approx(expected)


def test_more_people_than_count_change_nothing(tmp_path: Path) -> None:
    data = crowd_pose(tmp_path, crowding=0)
    many = Poses.from_arrays(
        np.zeros((50, 4)), np.linspace(1, 0.5, 50), np.random.default_rng(0).random((50, 14, 3))
    )
    result = evaluate_engine(Replay([many] * 3, Skeleton.for_keypoints(14)), data)
    assert result.found_people == 150
    assert {len(poses) for poses in result.people.values()} == {MAX_COUNTED}


@pytest.mark.parametrize(
    "person",
    [
        {"bbox": [0, 0, None, 1]},
        {"bbox": [0, 0, 1]},
        {"bbox": "abcd"},
        {"bbox": [0, 0, 1e308, 1e9]},
        {"bbox": [0, 0, 1, 1], "keypoints": 3},
    ],
)
def test_odd_values_in_annotations(tmp_path: Path, person: dict[str, Any]) -> None:
    entry = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [0, 0, 0], **person}
    content = {"images": [], "categories": [], "annotations": [entry]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(SourceError, match=r"a\.json: an entry of annotations has a bbox or keyp"):
        AnnotatedImages.open(tmp_path, tmp_path / "a.json")


def test_nobody_found_gives_zeros(tmp_path: Path) -> None:
    data = crowd_pose(tmp_path, crowding=0)
    details = keypoint_statistics(data.annotations, [], sigmas=[0.1] * 14)
    assert [oks.tolist() for oks in details.person_oks.values()] == [[0], [0], [0]]
    assert details.precisions[0.5].max() == 0
