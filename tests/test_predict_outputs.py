"""Which outputs the options of `pose-node predict` ask for, and what is refused at the door."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from pose_node.errors import OutputError
from pose_node.poses import COCO17
from pose_node.predict_outputs import FORMATS, add_output_arguments, open_outputs
from pose_node.prediction.outputs import CocoResults


def parse(folder: Path, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_output_arguments(parser)
    return parser.parse_args([*arguments, "--output", str(folder)])


def test_one_of_each(tmp_path: Path) -> None:
    for module in ("rosbags", "pyarrow"):
        pytest.importorskip(module, reason=f"{module} missing")
    outputs = open_outputs(parse(tmp_path, "--save", *FORMATS), ["a.mp4"], COCO17)
    names = [type(output).__name__ for output in outputs]
    expected = {"JsonLines", "Csv", "CocoResults", "Parquet", "AnnotatedPictures", "BagOutput"}
    assert len(names) == len(FORMATS)
    assert set(names) == expected
    for output in outputs:
        output.abort()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_json_lines_by_default(tmp_path: Path) -> None:
    (output,) = open_outputs(parse(tmp_path), ["a.mp4"], COCO17)
    assert [path.name for path in output.close()] == ["poses.jsonl"]


def test_an_output_that_cannot_be_leaves_nothing_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OutputError, match="--save parquet needs pyarrow"):
        open_outputs(parse(tmp_path, "--save", "jsonl", "csv", "parquet"), ["a.mp4"], COCO17)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("0", "only bags can be copied, 0 is none"),
        ("{}/video.mp4", "video.mp4 is none"),
        ("{}/old.bag", "old.bag is a bag of ROS 1"),
    ],
)
def test_only_bags_are_copied(tmp_path: Path, source: str, expected: str) -> None:
    pytest.importorskip("rosbags", reason="rosbags missing: pip install rosbags")
    (tmp_path / "video.mp4").touch()
    (tmp_path / "old.bag").touch()
    options = parse(tmp_path / "out", "--save", "bag", "--copy-bag")
    with pytest.raises(OutputError, match=expected):
        open_outputs(options, [source.format(tmp_path)], COCO17)


def test_what_is_not_there_does_not_keep_bags_from_being_copied(tmp_path: Path) -> None:
    pytest.importorskip("rosbags", reason="rosbags missing: pip install rosbags")
    options = parse(tmp_path, "--save", "bag", "--copy-bag")
    assert len(open_outputs(options, [str(tmp_path / "nowhere")], COCO17)) == 1


@pytest.mark.parametrize(
    ("names", "numbered"),
    [(["7.png", "012.png"], True), (["7.png", "07.jpg"], False), (["a.png"], False)],
)
def test_numbers_as_names_are_the_ids_of_coco(
    tmp_path: Path, names: list[str], numbered: bool
) -> None:
    for name in names:
        (tmp_path / name).touch()
    options = parse(tmp_path / "..", "--save", "coco")
    for others in ([], ["nowhere.mp4", "no/folder", "x" * 5000]):  # these give no frames
        (output,) = open_outputs(options, [str(tmp_path), *others], COCO17)
        output.abort()
        assert isinstance(output, CocoResults)
        assert output._numbered == numbered


@pytest.mark.parametrize("source", ["nowhere.mp4", "x" * 5000, "7", "{}/a.mp4"])
def test_frames_that_are_no_images_are_counted(tmp_path: Path, source: str) -> None:
    (tmp_path / "1.png").touch()
    (tmp_path / "a.mp4").touch()
    sources = [source.format(tmp_path)]
    for more in ([str(tmp_path / "1.png")], []) if source in ("7", "{}/a.mp4") else ([],):
        (output,) = open_outputs(parse(tmp_path, "--save", "coco"), [*more, *sources], COCO17)
        output.abort()
        assert isinstance(output, CocoResults)
        assert not output._numbered
