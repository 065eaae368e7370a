"""YOLO-pose text files against the same people in COCO's terms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose_node.errors import SourceError
from pose_node.evaluation import AnnotatedImages, evaluate_engine
from pose_node.poses import Poses, Skeleton

pytest.importorskip("pycocotools", reason="pycocotools missing: pip install pycocotools")

HAND = Skeleton.for_keypoints(3)
LINE = "0 0.5 0.5 0.4 0.4  0.4 0.4 2  0.5 0.5 1  0 0 0"


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[Path, Path]:
    """Two images of 200 x 100, the first with one person; folders of images and labels."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(images / f"{name}.png"), np.zeros((100, 200, 3), np.uint8))
    (labels / "a.txt").write_text(f"\n{LINE}\n")
    return images, labels


class Perfect:
    """Finds the person of the fixture in every image."""

    skeleton = HAND
    num_keypoints = 3
    stage_times: dict[str, float] = {"network": 0.001}  # noqa: RUF012

    def __call__(self, images: Sequence[np.ndarray]) -> list[Poses]:
        person = [[[80, 40, 1], [100, 50, 1], [7, 7, 0.1]]]
        return [Poses.from_arrays([[60, 30, 140, 70]], [0.9], person) for _ in images]


def test_labels_become_pixels(dataset: tuple[Path, Path]) -> None:
    data = AnnotatedImages.open_yolo(*dataset, num_keypoints=3)
    assert [path.name for path in data.paths] == ["a.png", "b.png"]
    (person,) = data.annotations["annotations"]
    assert person["bbox"] == pytest.approx([60, 30, 80, 40])
    assert person["area"] == pytest.approx(0.53 * 80 * 40)
    assert person["num_keypoints"] == 2
    expected = [[[80, 40, 2], [100, 50, 1], [0, 0, 0]]]
    np.testing.assert_allclose(data.keypoints_of(1), expected)
    assert data.count_people() == 1
    assert json.loads(json.dumps(data.annotations)) == data.annotations


def test_evaluation_on_them(dataset: tuple[Path, Path]) -> None:
    result = evaluate_engine(Perfect(), AnnotatedImages.open_yolo(*dataset, num_keypoints=3))
    assert result.image_oks == {"a.png": pytest.approx(1), "b.png": None}
    # The person in the empty image has the same score as the right one, so comes second.
    assert result.statistics["AP"] == pytest.approx(1)


def test_without_visibility_zero_means_not_there(dataset: tuple[Path, Path]) -> None:
    (dataset[1] / "a.txt").write_text("3 0.5 0.5 0.4 0.4 0.4 0.4 0.5 0.5 0 0")
    data = AnnotatedImages.open_yolo(*dataset, num_keypoints=3, limit=1)
    assert data.keypoints_of(1)[0, :, 2].tolist() == [2, 2, 0]
    assert len(data) == 1


def test_labels_refer_to_the_image_as_it_is_shown(dataset: tuple[Path, Path], shared: Path) -> None:
    turned = (shared / "data/odd/785_exif_orientation_6.jpg").read_bytes()
    (dataset[0] / "c.jpg").write_bytes(turned)
    (dataset[1] / "c.txt").write_text(LINE)
    data = AnnotatedImages.open_yolo(*dataset, num_keypoints=3)
    entry = data.images[2]
    assert data.read(2).shape[:2] == (entry["height"], entry["width"])
    assert data.keypoints_of(3)[0, 1].tolist() == [entry["width"] / 2, entry["height"] / 2, 1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"0 0.5", r"a\.txt, line 1: expected 14 values .* or 11 .*, got 2"),
        (LINE.replace("2", "x").encode(), "line 1: expected numbers: could not convert"),
        (LINE.replace(" 2 ", " nan ").encode(), "line 1: expected finite numbers"),
        (LINE.replace(" 2 ", " 3 ").encode(), r"expected visibilities 0, 1 or 2, got \[0.0, 1.0,"),
        (b"\xff\xfe\x00", r"cannot read .*a\.txt"),
    ],
)
def test_wrong_lines(dataset: tuple[Path, Path], content: bytes, reason: str) -> None:
    (dataset[1] / "a.txt").write_bytes(content)
    with pytest.raises(SourceError, match=reason):
        AnnotatedImages.open_yolo(*dataset, num_keypoints=3)


def test_folders_that_are_wrong(dataset: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = dataset
    with pytest.raises(SourceError, match="is no folder"):
        AnnotatedImages.open_yolo(images, tmp_path / "no", num_keypoints=3)
    with pytest.raises(SourceError, match="holds no images"):
        AnnotatedImages.open_yolo(labels, labels, num_keypoints=3)
    (labels / "a.txt").rename(labels / "z.txt")
    with pytest.raises(SourceError, match=r"for none of the 2 images .* for example a\.txt"):
        AnnotatedImages.open_yolo(images, labels, num_keypoints=3)
    (labels / "z.txt").rename(labels / "a.txt")
    (images / "b.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"cannot read .*b\.png"):
        AnnotatedImages.open_yolo(images, labels, num_keypoints=3)
