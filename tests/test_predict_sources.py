"""What `pose-node predict --ray` refuses before anything starts; a cluster is tested elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from pose_node import cli


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["0"], "0 is live, a cluster reads files only; leave --ray out"),
        (["a.mp4", "--save", "jsonl", "annotated"], "--save annotated needs the images"),
        (["a.mp4", "--save", "bag"], "--save jsonl csv coco parquet"),
        (["a.mp4", "--rerun"], "--rerun needs the images"),
        (["a.mp4", "--show"], "--show needs the images"),
    ],
)
def test_what_a_cluster_cannot_do(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert cli.main(["predict", *arguments, "--ray", "--output", str(output)]) == 1
    assert expected in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--ray-address", "auto"], "argument --ray-address: needs --ray"),
        (["--ray-workers", "3"], "argument --ray-workers: needs --ray"),
        (["--ray-cpus", "1"], "argument --ray-cpus: needs --ray"),
        (["--ray", "--threads", "2"], "argument --threads: needs a run without --ray; with it"),
    ],
)
def test_options_that_would_do_nothing(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert cli.main(["predict", "a.mp4", *arguments, "--output", str(output)]) == 2
    assert expected in capsys.readouterr().err
    assert not output.exists()


def test_counts_are_positive(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "a.mp4", "--ray", "--ray-workers", "0"]) == 2
    assert "expected at least 1" in capsys.readouterr().err
