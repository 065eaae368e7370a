"""YAML files that may come from anywhere: plain data, of bounded size and depth, no references."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


class PlainYamlError(Exception):
    """A file that is no plain YAML, or too large; the reader of its content says which file."""


def read_plain_yaml(path: Path, *, max_bytes: int, max_depth: int) -> Any:
    """The content of a file: dicts, lists, strings and numbers.

    Args:
        path: the file.
        max_bytes: larger files are refused unread.
        max_depth: more values inside each other are refused; 1 is a single value.

    Raises:
        PlainYamlError: it cannot be read, is too large or too deep, has references (they can unfold
            into gigabytes), names a key twice, or is no YAML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise PlainYamlError(f"cannot be read: {error.strerror or error}") from error
    if len(content) > max_bytes:
        raise PlainYamlError(f"expected at most {max_bytes} bytes, got more: is it the right file?")
    try:
        loader = _PlainLoader(content, max_depth)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        # Without the line itself: who may name a file need not be allowed to read it.
        mark = error.problem_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise PlainYamlError(f"expected plain YAML, got: {error.problem}{place}") from error
    # Besides its own errors: what dates, numbers and bytes that are none make Python raise.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise PlainYamlError(f"expected plain YAML, got: {error!s:.100}") from error


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Plain data only."""

    def __init__(self, content: bytes, max_depth: int) -> None:
        super().__init__(content)
        self._max_depth = max_depth
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """One node; refuses references and depth before anything is built."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem=f"references (*{event.anchor}) are not allowed, write the value out",
                problem_mark=event.start_mark,
            )
        if self._depth == self._max_depth:
            raise yaml.MarkedYAMLError(
                problem=f"nested more than {self._max_depth} deep", problem_mark=event.start_mark
            )
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A dict; a key that stands twice is an error, not the last one's win."""
        keys = [key.value for key, _ in node.value]
        for (key, _), value in zip(node.value, keys, strict=True):
            if keys.count(value) > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"{value!r:.80} stands here twice", problem_mark=key.start_mark
                )
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping
