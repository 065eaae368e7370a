"""The known models: complete, consistent, and helpful with wrong names."""

from __future__ import annotations

import re

import pytest

from pose_node.errors import FetchError
from pose_node.models.architectures import describe_architecture
from pose_node.models.catalog import (
    KNOWN_FILES,
    KNOWN_MODELS,
    SAMPLE_VIDEO,
    KnownFile,
    KnownModel,
    WheelMember,
    find,
    licence_note,
    suggest,
)
from pose_node.models.complexity import count_parameters


def test_every_family_and_size_is_there() -> None:
    sizes = {
        family: [model.size for model in KNOWN_MODELS.values() if model.family == family]
        for family in ("yolov5", "yolov7", "yolox", "yolov8", "yolo11", "yolo26")
    }
    assert sizes == {
        "yolov5": ["s6-lite", "s6", "m6-lite", "m6", "l6"],
        "yolov7": ["w6"],
        "yolox": ["s", "s-lite"],
        "yolov8": ["n", "s", "m", "l", "x", "x-p6"],
        "yolo11": ["n", "s", "m", "l", "x"],
        "yolo26": ["n", "s", "m", "l", "x"],
    }


@pytest.mark.parametrize("file", KNOWN_FILES.values(), ids=KNOWN_FILES)
def test_entry_is_well_formed(file: KnownFile) -> None:
    assert KNOWN_FILES[file.name] is file
    assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
    assert file.licence_url.startswith("https://")
    if isinstance(file.source, WheelMember):
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", file.source.requirement)
        assert file.sha256 is not None
    elif file.source is not None:
        assert file.source.startswith("https://")
        assert file.source.endswith(f"/{file.file_name}")


def test_digests_are_all_different() -> None:
    digests = [file.sha256 for file in KNOWN_FILES.values() if file.sha256]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("name", "tail"),
    [
        ("yolov8s-pose", "v8.3.0/yolov8s-pose.pt"),
        ("yolov8x-pose-p6", "v8.3.0/yolov8x-pose-p6.pt"),
    ],
)
def test_release_addresses(name: str, tail: str) -> None:
    assert KNOWN_MODELS[name].source == (
        f"https://github.com/ultralytics/assets/releases/download/{tail}"
    )


def test_larger_models_of_a_family_are_published_as_better() -> None:
    for family in ("yolov5", "yolov8", "yolo11", "yolo26"):
        models = [model for model in KNOWN_MODELS.values() if model.family == family]
        accuracies = [m.ap for m in models if m.ap is not None]
        assert len(accuracies) == len(models)
        assert accuracies == sorted(accuracies)
        assert [m.parameters for m in models] == sorted(m.parameters for m in models)
        assert all(0 < (m.ap or 0) < (m.ap50 or 0) < 1 for m in models)
        assert all(m.accuracy_source for m in models)


def test_the_video_is_no_model() -> None:
    assert SAMPLE_VIDEO.name not in KNOWN_MODELS
    assert find("sample-video") is SAMPLE_VIDEO


def test_wrong_name_is_refused_with_the_right_one() -> None:
    with pytest.raises(FetchError, match=r"'yolo11n-pos' .* did you mean 'yolo11n-pose'"):
        find("yolo11n-pos")


def test_far_name_leads_to_the_list() -> None:
    assert suggest("zebra", KNOWN_MODELS) == "`pose-node models` lists the known ones"


def test_licence_notes_name_licence_and_address() -> None:
    weights = licence_note(KNOWN_MODELS["yolo11n-pose"])
    assert "AGPL-3.0" in weights
    assert "https://www.ultralytics.com/license" in weights
    assert "\n" not in weights
    assert "BSD-3-Clause" in licence_note(SAMPLE_VIDEO)


@pytest.mark.parametrize("model", KNOWN_MODELS.values(), ids=KNOWN_MODELS)
def test_parameters_are_those_of_the_architecture(model: KnownModel) -> None:
    trained = {"training_parts": True} if model.accuracy_source.startswith("Ultra") else {}
    description = describe_architecture(model.family, model.size, **trained)
    assert model.parameters == count_parameters(description)
