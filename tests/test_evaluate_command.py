"""`pose-node evaluate`: several models, tables, figures, other skeletons."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose_node import cli
from pose_node.evaluation.tables import markdown_table
from pose_node.poses import COCO17

pytest.importorskip("pycocotools", reason="pycocotools missing: pip install pycocotools")
pytest.importorskip("matplotlib", reason="matplotlib missing: pip install matplotlib")

TINY = "fixtures/ul_yolo11_tiny_pose.pt"
COARSE = "fixtures/y7_w6_tiny_pose.pt"
FUSED = "fixtures/ul_yolo11_tiny_pose_fused.pt"


@pytest.fixture
def annotated(tmp_path: Path) -> list[str]:
    """The arguments that name two images with one annotated person each."""
    keypoints = np.stack([np.arange(17) * 2 + 10, np.arange(17) * 2 + 9, np.full(17, 2)], axis=1)
    images, people = [], []
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((64, 64, 3), 90, np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        people.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 50, 50]}
            | {"keypoints": keypoints.ravel().tolist(), "area": 1100}
        )
    category = {"id": 1, "name": "person", "keypoints": COCO17.keypoint_names}
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps({"images": images, "annotations": people, "categories": [category]}))
    settings = ["--device", "cpu", "--image-size", "64", "--score-threshold", "0.2"]
    return ["--images", str(tmp_path), "--annotations", str(file), *settings]


def test_two_models_make_one_table_and_figures(
    shared: Path, tmp_path: Path, annotated: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, table, figures = tmp_path / "out.json", tmp_path / "table.md", tmp_path / "figures"
    arguments = ["evaluate", "--model", str(shared / TINY), "--model", str(shared / FUSED)]
    outputs = ["--json", str(out), "--markdown", str(table), "--figures", str(figures)]
    assert cli.main([*arguments, *annotated, *outputs]) == 0
    names = ["ul_yolo11_tiny_pose", "ul_yolo11_tiny_pose_fused"]
    lines = table.read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == names
    assert table.read_text() in capsys.readouterr().out
    models = json.loads(out.read_text())["models"]
    assert [model["model"] for model in models] == names
    assert set(models[0]["image_oks"]) == {"1.png", "2.png"}
    assert models[0]["images_per_second"] > 0
    files = {path.name for path in figures.iterdir()}
    assert files == {"precision_recall.png", "oks_histogram.png"} | {
        f"worst_{n}.png" for n in names
    }
    for path in figures.iterdir():
        picture = cv2.imread(str(path))
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 5


def test_worst_images_whose_names_are_no_utf_8(
    shared: Path, tmp_path: Path, annotated: list[str]
) -> None:
    odd = os.fsdecode(b"x\xe9.png")
    (tmp_path / "1.png").rename(tmp_path / odd)
    file = tmp_path / "annotations.json"
    file.write_text(file.read_text().replace("1.png", json.dumps(odd)[1:-1]))
    arguments = ["evaluate", "--model", str(shared / TINY), *annotated, "--figures", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "pose_node", *arguments], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "worst_ul_yolo11_tiny_pose.png").is_file()


def test_one_of_two_models_fails_and_the_other_is_in_the_table(
    shared: Path, tmp_path: Path, annotated: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.pt").write_bytes(b"no model")
    arguments = ["evaluate", "--model", str(tmp_path / "broken.pt"), str(shared / TINY)]
    out = tmp_path / "out.json"
    assert cli.main([*arguments, *annotated, "--json", str(out)]) == 1
    captured = capsys.readouterr()
    assert "| broken " in captured.out
    assert "failed" in captured.out
    assert "pose-node: broken: " in captured.err
    assert "error" in json.loads(out.read_text())["models"][0]


def test_models_that_are_missing_or_do_not_suit_do_not_keep_others_from_it(
    shared: Path, tmp_path: Path, annotated: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    missing, coarse = str(tmp_path / "nowhere.pt"), str(shared / COARSE)
    models = [missing, coarse, "no-such-model", str(shared / TINY), str(tmp_path)]
    table = tmp_path / "table.md"
    options = ["--image-size", "96", "--markdown", str(table)]  # 64 or 128 for that one
    assert cli.main(["evaluate", "--model", *models, *annotated, *options]) == 1
    rows = [line.split("|")[1:3] for line in table.read_text().splitlines()[2:]]
    failed = {name.strip(): value.strip() == "failed" for name, value in rows}
    assert failed == {
        "nowhere": True,
        Path(COARSE).stem: True,
        "no-such-model": True,
        Path(TINY).stem: False,
        tmp_path.name: True,
    }
    assert f"{coarse} cannot be used with these settings: " in capsys.readouterr().err


def test_nothing_but_failures_is_a_table_too(
    tmp_path: Path, annotated: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--model", str(tmp_path / "a.pt"), str(tmp_path / "b.pt")]
    figures = ["--figures", str(tmp_path / "figures")]
    assert cli.main(["evaluate", *models, *annotated, *figures]) == 1
    assert capsys.readouterr().out.count("failed") == 20


def test_models_of_one_name_have_rows_and_figures_of_their_own(
    shared: Path, tmp_path: Path, annotated: list[str]
) -> None:
    models = [tmp_path / folder / "best.pt" for folder in ("one", "two", "three")]
    for model in models:
        model.parent.mkdir()
        model.symlink_to(shared / TINY)
    table, figures = tmp_path / "table.md", tmp_path / "figures"
    outputs = ["--markdown", str(table), "--figures", str(figures)]
    arguments = ["evaluate", "--model", *map(str, models)]
    assert cli.main([*arguments, *annotated, *outputs]) == 0
    names = [line.split("|")[1].strip() for line in table.read_text().splitlines()[2:]]
    assert names == ["best", *map(str, models[1:])]
    assert len(list(figures.glob("worst_*best*.png"))) == 3


def test_yolo_labels(
    shared: Path, tmp_path: Path, annotated: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "1.txt").write_text("0 .5 .5 .5 .5 " + "0.4 0.4 2 " * 17)
    arguments = ["evaluate", "--model", str(shared / TINY), *annotated]
    assert cli.main([*arguments, "--annotations", str(labels)]) == 0
    assert "2 images, 1 people annotated" in capsys.readouterr().out


def test_a_skeleton_file_and_a_warning_about_other_names(
    shared: Path, tmp_path: Path, annotated: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["head", *COCO17.keypoint_names[1:]]
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: mine\nkeypoints: {json.dumps(names)}\nsigmas: 0.1\n")
    out = tmp_path / "out.json"
    arguments = ["evaluate", "--model", str(shared / TINY), *annotated, "--json", str(out)]
    assert cli.main([*arguments, "--skeleton", str(file)]) == 0
    assert json.loads(out.read_text())["skeleton"] == "mine"
    assert "keypoint 0 is head in skeleton mine and nose in the" in capsys.readouterr().err


def test_a_skeleton_of_another_size(
    shared: Path, annotated: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    hand = str(Path(__file__).parents[1] / "config/skeletons/hand21.yaml")
    arguments = ["evaluate", "--model", str(shared / TINY), *annotated]
    assert cli.main([*arguments, "--skeleton", hand]) == 2
    assert "17 keypoints" in capsys.readouterr().err


def test_worst_images_are_figures(annotated: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "--model", "x", *annotated, "--worst", "3"]) == 2
    assert "argument --worst: needs --figures" in capsys.readouterr().err


def test_figures_without_matplotlib(
    annotated: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    arguments = ["evaluate", "--model", "x", *annotated, "--figures", "figures"]
    assert cli.main(arguments) == 1
    assert "pip install 'pose-node[evaluate]'" in capsys.readouterr().err


def test_cells_of_a_markdown_table() -> None:
    assert markdown_table([("a", "b"), ("x|y", "1.0")]).splitlines() == [
        "| a    |   b |",
        "|------|----:|",
        "| x\\|y | 1.0 |",
    ]
    with pytest.raises(ValueError, match="rows of one length"):
        markdown_table([("a",), ("b", "c")])
