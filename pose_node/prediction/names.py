"""Names of the files that results of a source go to."""

from __future__ import annotations

from pathlib import Path


class FreeNames:
    """Gives names that nothing of this run has."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def take(self, stem: str, suffix: str = "") -> str:
        """`stem` and `suffix`, with a number in between where that name is taken."""
        wanted = name = stem + suffix
        number = self._numbers.get(wanted, 1)  # not from 1 each time: there may be many
        while name in self._taken:
            number += 1
            name = f"{stem}_{number}{suffix}"
        self._numbers[wanted] = number
        self._taken.add(name)
        return name


def plain_name(source: str) -> str:
    """A name for what comes from a source: its file name without suffix, or its address, plain."""
    if "://" in source:
        name = source.split("://", 1)[1]
        host, slash, rest = name.partition("/")
        name = host.rpartition("@")[2] + slash + rest  # no passwords in names of files
    else:
        path = Path(source)
        name = path.name if path.is_dir() else path.stem
    return plain(name).strip("._ ") or "source"


def plain(name: str) -> str:
    """A name with nothing in it that file systems or shells could take for anything else."""
    return "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in name)
