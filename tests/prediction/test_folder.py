"""What a run finds in its folder, and leaves there; how the command uses it is tested there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pose_node.errors import OutputError
from pose_node.prediction.folder import ResultsFolder
from pose_node.prediction.frames import Failure
from pose_node.prediction.run import Summary

REQUEST = {"save": ["jsonl"], "range": (0, 1)}


def finished(path: Path, *, complete: bool = True) -> ResultsFolder:
    folder = ResultsFolder(path)
    summary = Summary(3, 1, 2, 1, [Failure("a.mp4", "broken", index=2)], [path / "b/c"], 0.12345)
    summary.complete = complete
    folder.write_summary(summary, {"settings": REQUEST})
    return ResultsFolder(path)


def test_a_summary_says_what_became_of_a_run(tmp_path: Path) -> None:
    finished(tmp_path / "new/out")
    assert json.loads((tmp_path / "new/out/run.json").read_text()) == {
        **{"complete": True, "frames": 3, "frames_recalled": 1, "people": 2, "seconds": 0.123},
        "failures": [{"source": "a.mp4", "topic": "", "frame": 2, "reason": "broken"}],
        "files": ["b/c"],
        "settings": {"save": ["jsonl"], "range": [0, 1]},
    }


def test_a_complete_run_answers_the_same_request_only(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    found = folder.complete_run(REQUEST)
    assert found is not None
    assert found["frames"] == 3
    with pytest.raises(OutputError, match=r"outputs \(save: \['jsonl'\], now \['csv'\]\); --force"):
        folder.complete_run({**REQUEST, "save": ["csv"]})
    assert finished(tmp_path, complete=False).complete_run({}) is None
    folder.begin()
    assert ResultsFolder(tmp_path).complete_run(REQUEST) is None


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    ResultsFolder(tmp_path).check_unused()
    journal = ResultsFolder(tmp_path).open_journal({}, 3, resume=False)
    with pytest.raises(OutputError, match="--resume continues it"):
        ResultsFolder(tmp_path).check_unused()
    journal.close(keep=False)
    ResultsFolder(tmp_path).check_unused()
    with pytest.raises(OutputError, match="--resume continues it"):
        finished(tmp_path, complete=False).check_unused()


@pytest.mark.parametrize("content", ["{", "[]", "3"])
def test_a_summary_of_something_else(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(OutputError, match="cannot use"):
        ResultsFolder(tmp_path)
