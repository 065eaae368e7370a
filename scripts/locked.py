#!/usr/bin/env python3
"""The lock files in requirements/locked: see scripts/lock.

They hold no address of an index: where archives come from is the user's choice, the hashes say
whether they are the right ones. torch is not among them: its build (CPU, which CUDA) is the user's
choice, too, and each has another hash (requirements/torch.txt).
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
REQUIREMENTS = REPOSITORY / "requirements"
LOCKED = REQUIREMENTS / "locked"
PYTHONS = {"kilted": ("3.10", "3.11", "3.12", "3.13"), "jazzy": ("3.10", "3.11", "3.12")}
NEWEST_GLIBC = "x86_64-manylinux_2_40"  # archives for this one and all older ones


def main() -> int:
    """Write the lock files, or check that they are up to date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    options = parser.parse_args()
    stale = []
    for distribution, pythons in PYTHONS.items():
        for python in pythons:
            path = LOCKED / f"{distribution}-{python}.txt"
            if options.check:
                if not is_current(path, distribution):
                    stale.append(path.name)
                continue
            print(f"lock: {path.name}", flush=True)
            text = lock(distribution, python, path, upgrade=options.upgrade)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"lock: requirements/ changed since {', '.join(stale)}: run scripts/lock")
    return 1 if stale else 0


def inputs(distribution: str) -> list[Path]:
    """The files that name what is installed: as scripts/setup chooses them."""
    names = [distribution, "python", "develop"]
    if "numpy==1" not in (REQUIREMENTS / f"{distribution}.txt").read_text(encoding="utf-8"):
        names.append("numpy2")
    return [REQUIREMENTS / f"{name}.txt" for name in names]


def mark(distribution: str) -> str:
    """The line of a lock file that says what it was made from; scripts/setup compares it."""
    content = b"".join(path.read_bytes() for path in inputs(distribution))
    return f"# inputs {hashlib.sha256(content).hexdigest()}"


def is_current(path: Path, distribution: str) -> bool:
    """Whether a lock file was made from the requirements as they are."""
    return path.is_file() and mark(distribution) in path.read_text(encoding="utf-8").splitlines()


def lock(distribution: str, python: str, path: Path, *, upgrade: bool) -> str:
    """The text of a lock file."""
    import tomllib

    preferred = REPOSITORY / "build" / "preferred.txt"
    preferred.write_text("" if upgrade else _versions(path, distribution), encoding="utf-8")
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("uv"), "pip", "compile", "--quiet"),
            *("--format", "pylock.toml", "--generate-hashes", "--no-config"),
            *("--python-version", python, "--python-platform", NEWEST_GLIBC),
            *("--constraints", preferred, *inputs(distribution)),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        check=True,
    )
    packages = tomllib.loads(done.stdout.decode())["packages"]
    lines = [
        f"# ROS 2 {distribution}, Python {python}, Linux on x86-64: made by scripts/lock from",
        f"# {', '.join(item.name for item in inputs(distribution))}.",
        mark(distribution),
    ]
    for package in sorted(packages, key=lambda item: str(item["name"])):
        lines.append(f"{package['name']}=={package['version']} \\")
        hashes = [f"    --hash=sha256:{digest}" for digest in digests(package)]
        lines += [f"{line} \\" for line in hashes[:-1]] + hashes[-1:]
    return "\n".join(lines) + "\n"


def digests(package: dict[str, Any]) -> list[str]:
    """Of the wheels that fit; where there is none, of the sources."""
    archives = package.get("wheels") or [package["sdist"]]
    return sorted({str(archive["hashes"]["sha256"]) for archive in archives})


def _versions(path: Path, distribution: str) -> str:
    """What a lock file has beyond what the requirements name."""
    if not path.is_file():
        return ""
    named = {
        re.split(r"[\[=<>; ]", line)[0].lower()
        for source in inputs(distribution)
        for line in source.read_text(encoding="utf-8").splitlines()
    }
    pins = [
        line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if "==" in line
    ]
    return "".join(f"{pin}\n" for pin in pins if pin.split("==")[0] not in named)


if __name__ == "__main__":
    sys.exit(main())
