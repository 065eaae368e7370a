"""COCO keypoint statistics: against pycocotools' own numbers, and of the real model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose_node.errors import OutputError, SourceError
from pose_node.evaluation import (
    STATISTICS,
    AnnotatedImages,
    coco_results,
    evaluate_engine,
    evaluate_keypoints,
    write_json,
)
from pose_node.poses import COCO17, Poses, Skeleton
from tests.conftest import make_poses

pytest.importorskip("pycocotools", reason="pycocotools missing: pip install pycocotools")

KEYPOINTS = np.stack([np.arange(17) * 5 + 20, np.arange(17) * 3 + 30, np.full(17, 2)], axis=1)


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, Path]:
    """Three images of 160 x 120 with one annotated person in the first two; folder and file."""
    annotations = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": 160, "height": 120} for n in (7, 3, 5)
        ],
        "annotations": [
            {
                "id": n,
                "image_id": n,
                "category_id": 4,
                "keypoints": KEYPOINTS.ravel().tolist(),
                "num_keypoints": 17,
                "area": 4000.0,
                "bbox": [20, 30, 80, 50],
                "iscrowd": 0,
            }
            for n in (3, 5)
        ],
        "categories": [
            {"id": 1, "name": "dog"},
            {"id": 4, "name": "person", "keypoints": list(COCO17.keypoint_names)},
        ],
    }
    for n in (3, 5, 7):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((120, 160, 3), n, np.uint8))
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(annotations))
    return tmp_path, file


class FakeEngine:
    """Finds the annotated person in the images whose grey value it is told."""

    skeleton = COCO17
    num_keypoints = 17

    def __init__(self, *grey_values: int) -> None:
        self.grey_values = grey_values
        self.stage_times: dict[str, float] = {}
        self.batches: list[int] = []

    def __call__(self, images: Sequence[np.ndarray]) -> list[Poses]:
        self.stage_times = {"network": 0.002 * len(images)}
        self.batches.append(len(images))
        person = Poses.from_arrays([[20, 30, 100, 80]], [0.9], KEYPOINTS[None])
        return [
            person if image[0, 0, 0] in self.grey_values else Poses.empty(17) for image in images
        ]


def change(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


# --- Pure parts ---------------------------------------------------------------------------------


def test_result_rows_hold_every_keypoint_in_order() -> None:
    poses = make_poses(2)
    rows = coco_results(poses, 42, category_id=3)
    assert [row["image_id"] for row in rows] == [42, 42]
    assert [row["category_id"] for row in rows] == [3, 3]
    for index, row in enumerate(rows):
        assert row["score"] == pytest.approx(poses.scores[index])
        assert np.allclose(np.reshape(row["keypoints"], (17, 3)), poses.keypoints[index])
    assert json.loads(json.dumps(rows)) == rows


def test_nobody_makes_no_rows() -> None:
    assert coco_results(Poses.empty(17), 1) == []


def test_statistics_are_those_of_pycocotools(shared: Path) -> None:
    fixture = json.loads((shared / "fixtures/coco_keypoint_eval.json").read_text())
    before = json.dumps(fixture)
    found = evaluate_keypoints(fixture["gt"], fixture["dets"])
    expected = dict(zip(fixture["stat_names"], fixture["stats"], strict=True))
    assert tuple(found) == STATISTICS
    assert found == pytest.approx(expected, abs=1e-9)
    assert json.dumps(fixture) == before


def test_no_result_at_all_scores_zero(scene: tuple[Path, Path]) -> None:
    annotations = json.loads(scene[1].read_text())
    assert evaluate_keypoints(annotations, [])["AP"] == 0


def test_images_without_people_have_no_statistics(scene: tuple[Path, Path]) -> None:
    annotations = json.loads(scene[1].read_text())
    assert evaluate_keypoints(annotations, [], image_ids=[7])["AP"] == -1


def test_other_skeletons_bring_their_sigmas(scene: tuple[Path, Path]) -> None:
    annotations = json.loads(scene[1].read_text())
    for annotation in annotations["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][:9]
        annotation["num_keypoints"] = 3
    poses = Poses.from_arrays([[0, 0, 9, 9]], [0.9], KEYPOINTS[None, :3] + [2, 0, 0])
    rows = [row for n in (3, 5) for row in coco_results(poses, n, category_id=4)]
    wide = evaluate_keypoints(annotations, rows, sigmas=[0.5] * 3)
    narrow = evaluate_keypoints(annotations, rows, sigmas=[0.001] * 3)
    assert wide["AP"] == pytest.approx(1)
    assert narrow["AP"] == 0


def test_pycocotools_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.coco", None)
    with pytest.raises(SourceError, match="needs pycocotools"):
        evaluate_keypoints({}, [])


# --- An engine over images ----------------------------------------------------------------------


def test_perfect_engine_scores_one(scene: tuple[Path, Path]) -> None:
    engine, seen = FakeEngine(3, 5), []
    data = AnnotatedImages.open(*scene)
    result = evaluate_engine(engine, data, batch_size=2, progress=lambda *state: seen.append(state))
    assert result.statistics["AP"] == pytest.approx(1)
    assert (result.images, result.annotated_people, result.found_people) == (3, 2, 2)
    assert result.stage_milliseconds == {"network": pytest.approx(2)}
    assert engine.batches == [2, 1]
    assert seen == [(2, 3), (3, 3)]
    assert json.loads(json.dumps(result.to_json()))["statistics"]["AR"] == pytest.approx(1)


def test_person_found_where_nobody_is_costs_precision(scene: tuple[Path, Path]) -> None:
    data = AnnotatedImages.open(*scene)
    statistics = evaluate_engine(FakeEngine(7), data).statistics
    assert (statistics["AP"], statistics["AR"]) == (0, 0)


def test_limit_takes_the_smallest_ids_and_counts_only_them(scene: tuple[Path, Path]) -> None:
    data = AnnotatedImages.open(*scene, limit=1)
    result = evaluate_engine(FakeEngine(3), data)
    assert [image["id"] for image in data.images] == [3]
    assert result.statistics["AP"] == pytest.approx(1)
    assert result.annotated_people == 1


def test_other_number_of_keypoints_is_refused(scene: tuple[Path, Path]) -> None:
    engine = FakeEngine()
    engine.num_keypoints = 4
    engine.skeleton = Skeleton.for_keypoints(4)
    with pytest.raises(SourceError, match="the model finds 4 keypoints, the annotations have 17"):
        evaluate_engine(engine, AnnotatedImages.open(*scene))


def test_missing_images_are_listed(scene: tuple[Path, Path]) -> None:
    (scene[0] / "5.png").unlink()
    (scene[0] / "7.png").unlink()
    with pytest.raises(SourceError, match=r"2 of 3 annotated images .*: 5\.png, 7\.png$"):
        AnnotatedImages.open(*scene)


def test_many_missing_images_are_listed_in_part(tmp_path: Path, scene: tuple[Path, Path]) -> None:
    images = [{"id": n, "file_name": f"no{n}.png"} for n in range(9)]
    change(scene[1], images=images)
    with pytest.raises(SourceError, match=r"9 of 9 .*no4\.png, \.\.\.$"):
        AnnotatedImages.open(*scene)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "it is no JSON"),
        (b"\xff\xff", "it is no JSON"),
        (b"[]", "no COCO annotation file: it has no list of images"),
        (b'{"images": [], "annotations": []}', "it has no list of categories"),
        (b'{"images": [3]}', "an entry of images has no file_name, id: 3"),
    ],
)
def test_file_that_is_no_annotation_file(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(SourceError, match=reason):
        AnnotatedImages.open(tmp_path, tmp_path / "a.json")


def test_annotation_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        AnnotatedImages.open(tmp_path, tmp_path / "a.json")


def test_annotations_without_keypoints(scene: tuple[Path, Path]) -> None:
    change(scene[1], categories=[{"id": 1, "name": "dog"}])
    with pytest.raises(SourceError, match="0 categories with keypoints"):
        AnnotatedImages.open(*scene)


def test_annotations_without_images(scene: tuple[Path, Path]) -> None:
    change(scene[1], images=[])
    with pytest.raises(SourceError, match="names no images"):
        AnnotatedImages.open(*scene)


def test_annotations_with_incomplete_entries(scene: tuple[Path, Path]) -> None:
    change(scene[1], images=[{"width": 3}])
    with pytest.raises(SourceError, match=r"an entry of images has no file_name, id: {'width': 3}"):
        AnnotatedImages.open(*scene)


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_image_that_cannot_be_read(scene: tuple[Path, Path], content: bytes) -> None:
    (scene[0] / "3.png").write_bytes(content)
    with pytest.raises(SourceError, match=r"cannot read .*3\.png"):
        AnnotatedImages.open(*scene).read(0)


def test_image_of_another_size(scene: tuple[Path, Path]) -> None:
    cv2.imwrite(str(scene[0] / "3.png"), np.zeros((120, 80, 3), np.uint8))
    with pytest.raises(SourceError, match="80 x 120 pixels, its annotation says 160 x 120"):
        AnnotatedImages.open(*scene).read(0)


def test_json_is_written_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "out.json", {"AP": 0.5})
    assert json.loads((tmp_path / "out.json").read_text()) == {"AP": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_json_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*No such file"):
        write_json(tmp_path / "no/out.json", {})


# --- The real model -----------------------------------------------------------------------------


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, 4) and (M, 4) boxes to (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    return np.asarray(common / (areas[0][:, None] + areas[1][None] - common))


@pytest.mark.slow
def test_statistics_of_the_real_model(shared: Path, yolo11n_pose: Path) -> None:
    from pose_node import PoseEngine

    coco = shared / "data/coco"
    reference = json.loads((coco / "reference_yolo11n_pose.json").read_text())
    engine = PoseEngine.load(
        yolo11n_pose, device="cpu", score_threshold=0.001, iou_threshold=0.7, max_people=300
    )
    data = AnnotatedImages.open(coco / "val2017", coco / "annotations.json")
    found = evaluate_engine(engine, data).statistics
    assert found["AP"] == pytest.approx(reference["stats"]["AP"], abs=0.003)
    assert found == pytest.approx(reference["stats"], abs=0.01)


@pytest.mark.slow
def test_detections_of_the_real_model(shared: Path, yolo11n_pose: Path) -> None:
    from pose_node import PoseEngine

    coco = shared / "data/coco"
    reference = json.loads((coco / "reference_yolo11n_pose.json").read_text())["images"]
    engine = PoseEngine.load(
        yolo11n_pose, device="cpu", score_threshold=0.2, iou_threshold=0.7, max_people=300
    )
    data = AnnotatedImages.open(coco / "val2017", coco / "annotations.json")
    listed = matched = 0
    distances: list[np.ndarray] = []
    for index, path in enumerate(data.paths):
        expected = reference[path.name]
        boxes = np.reshape(expected["boxes_xyxy"], (-1, 4))
        image = data.read(index)
        (poses,) = engine([image])
        listed += len(boxes)
        overlaps = intersection_over_union(boxes, poses.boxes_xyxy)
        pairs = np.argwhere(overlaps > 0.95)
        assert len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])) == len(pairs), path.name
        for row, column in pairs:
            keypoints = np.array(expected["keypoints"][row])
            sure = keypoints[:, 2] > 0.5
            # The reference moves keypoints to the edge of the image; ours may lie beyond.
            height, width = image.shape[:2]
            within = np.clip(poses.keypoints[column, :, :2], 0, (width, height))
            distance = np.linalg.norm(within - keypoints[:, :2], axis=1)[sure]
            matched += bool((distance < 1).all())
            distances.append(distance)
            assert abs(poses.scores[column] - expected["scores"][row]) < 0.02
    assert listed > 150
    assert matched >= 0.99 * listed
    assert np.median(np.concatenate(distances)) < 0.2
