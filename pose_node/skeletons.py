"""Skeletons by name or from a YAML file: what the keypoints of a model are called and joined by.

A file names the keypoints and, where there are any, limbs, left/right pairs and OKS sigmas; see
``config/skeletons/hand21.yaml``. It may come from anywhere, so it is read as plain data, of bounded
size and depth, and without YAML's references.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from pose_node.errors import SkeletonError
from pose_node.installation import find_installed
from pose_node.plain_yaml import PlainYamlError, read_plain_yaml
from pose_node.poses import COCO17, Skeleton

BUILT_IN = {COCO17.name: COCO17}
"""The skeletons that need no file, by name."""

MAX_FILE_BYTES = 256 * 1024
MAX_KEYPOINTS = 1000
_MAX_DEPTH = 4  # the file, a list, a pair, an index
_MAX_NAME = 100  # characters

_NEEDED = ("name", "keypoints")
_FIELDS = (*_NEEDED, "edges", "flip", "sigmas")


def load_skeleton(name_or_path: str | os.PathLike[str]) -> Skeleton:
    """A skeleton by its name, or from a YAML file.

    Args:
        name_or_path: one of `BUILT_IN`, the name of a file that comes with the package in
            ``config/skeletons`` ("hand21", "crowdpose14"), or a file with the fields ``name``,
            ``keypoints`` (names), and, all optional, ``edges`` and ``flip`` (pairs of keypoints, by
            name or index from 0) and ``sigmas`` (one number for each keypoint or one for all; by
            default 1/K).

    Raises:
        SkeletonError: there is no such skeleton or file, or the file is not as it should be; the
            error names the file and the field.
    """
    if isinstance(name_or_path, str) and name_or_path in BUILT_IN:
        return BUILT_IN[name_or_path]
    path = Path(name_or_path)
    if not path.is_file():
        shipped = str(path).isidentifier() and find_installed(f"config/skeletons/{path}.yaml")
        if not shipped:
            raise SkeletonError(
                f"skeleton {str(name_or_path)!r} is neither a built-in one ({', '.join(BUILT_IN)}) "
                "nor a YAML file; give the path of a file with name, keypoints and edges"
            )
        path = shipped
    try:
        content = read_plain_yaml(path, max_bytes=MAX_FILE_BYTES, max_depth=_MAX_DEPTH)
    except PlainYamlError as error:
        raise SkeletonError(f"{path}: {error}") from error
    return _FieldReader(str(path), content).skeleton()


class _FieldReader:
    """Makes a skeleton of the content of a file, field by field, each with its own error."""

    def __init__(self, file: str, content: Any) -> None:
        self._file = file
        self._content = content
        self._names: tuple[str, ...] = ()

    def skeleton(self) -> Skeleton:
        """The skeleton; raises SkeletonError for the first field that is not as it should be."""
        content = self._content
        # Of a file that is no skeleton nothing is told: it may be anybody's.
        if not isinstance(content, dict) or not content.keys() & set(_FIELDS):
            raise SkeletonError(
                f"{self._file}: the file: expected a mapping with the fields {', '.join(_FIELDS)}, "
                f"got something else ({type(content).__name__})"
            )
        unknown = [str(key)[:40] for key in content if key not in _FIELDS]
        if unknown:
            raise self._error("the file", f"only the fields {', '.join(_FIELDS)}", unknown)
        for field in _NEEDED:
            if field not in content:
                raise self._error(field, "this field", "none")
        self._names = self._keypoint_names(content["keypoints"])
        return Skeleton(
            name=self._text("name", content["name"]),
            keypoint_names=self._names,
            edges=self._pairs("edges"),
            flip=self._flip(),
            sigmas=self._sigmas(),
        )

    def _error(self, field: str, expected: str, got: object) -> SkeletonError:
        text = repr(got)
        if len(text) > 80:
            text = f"{text[:80]}..."
        return SkeletonError(f"{self._file}: {field}: expected {expected}, got {text}")

    def _text(self, field: str, value: object) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME or not value.isprintable():
            raise self._error(
                field, f"a name of 1 to {_MAX_NAME} characters (in quotes, if in doubt)", value
            )
        return value

    def _keypoint_names(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_KEYPOINTS:
            raise self._error("keypoints", f"a list of 1 to {MAX_KEYPOINTS} names", value)
        names = tuple(self._text(f"keypoints[{i}]", name) for i, name in enumerate(value))
        for index, name in enumerate(names):
            if names.index(name) != index:
                raise self._error(f"keypoints[{index}]", "a name that is not taken", name)
        return names

    def _pairs(self, field: str) -> tuple[tuple[int, int], ...]:
        value = self._content.get(field)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self._error(field, "a list of pairs of keypoints", value)
        pairs = []
        for index, pair in enumerate(value):
            place = f"{field}[{index}]"
            if not isinstance(pair, list) or len(pair) != 2:
                raise self._error(place, "a pair of keypoints, [first, second]", pair)
            first, second = (self._keypoint(place, keypoint) for keypoint in pair)
            if first == second:
                raise self._error(place, "two different keypoints", pair)
            pairs.append((first, second))
        return tuple(pairs)

    def _keypoint(self, place: str, value: object) -> int:
        """The index of a keypoint that is given by its name or its index."""
        if isinstance(value, str) and value in self._names:
            return self._names.index(value)
        # bool is an int to Python.
        if type(value) is int and 0 <= value < len(self._names):
            return value
        last = len(self._names) - 1
        raise self._error(place, f"the name of a keypoint or an index from 0 to {last}", value)

    def _flip(self) -> tuple[int, ...]:
        flip = list(range(len(self._names)))
        for index, (first, second) in enumerate(self._pairs("flip")):
            if flip[first] != first or flip[second] != second:
                pair = [self._names[first], self._names[second]]
                raise self._error(f"flip[{index}]", "keypoints that no other pair has", pair)
            flip[first], flip[second] = second, first
        return tuple(flip)

    def _sigmas(self) -> tuple[float, ...]:
        count = len(self._names)
        value = self._content.get("sigmas")
        if value is None:
            return (1 / count,) * count  # as the YOLOv8 trainer takes them
        values = value if isinstance(value, list) else [value] * count
        if len(values) != count:
            raise self._error("sigmas", f"one number, or {count}, one for each keypoint", value)
        for index, sigma in enumerate(values):
            if type(sigma) not in (int, float) or not 0 < sigma < math.inf:
                raise self._error(f"sigmas[{index}]", "a number above 0, such as 0.05", sigma)
        return tuple(float(sigma) for sigma in values)
