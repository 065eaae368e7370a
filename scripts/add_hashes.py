#!/usr/bin/env python3
"""Adds the SHA-256 of the lock file to a bill of materials: ``add_hashes.py SBOM ENVIRONMENT``.

Also takes away where packages were downloaded from: that is a matter of the machine, not of them.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

LOCKED = Path(__file__).resolve().parents[1] / "requirements/locked"


def main() -> None:
    """Rewrite the file."""
    path, environment = Path(sys.argv[1]), Path(sys.argv[2])
    distribution = environment.name.partition("-")[2] or "kilted"
    configuration = (environment / "pyvenv.cfg").read_text(encoding="utf-8")
    python = re.search(r"^version *= *(\d+\.\d+)", configuration, re.MULTILINE)
    known = read_lock(LOCKED / f"{distribution}-{python[1]}.txt") if python else {}
    content = json.loads(path.read_text(encoding="utf-8"))
    hashed = 0
    for component in content["components"]:
        references = component.get("externalReferences", [])
        component["externalReferences"] = [
            reference for reference in references if reference["type"] != "distribution"
        ]
        name = re.sub(r"[-_.]+", "-", component["name"]).lower()
        if digests := known.get(f"{name}=={component['version']}"):
            component["hashes"] = [{"alg": "SHA-256", "content": digest} for digest in digests]
            hashed += 1
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"sbom: {path}: {len(content['components'])} packages, {hashed} with SHA-256")


def read_lock(path: Path) -> dict[str, list[str]]:
    """The digests of each "name==version"."""
    found: dict[str, list[str]] = {}
    pin = ""
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        if "==" in line:
            pin = line.split()[0]
        elif "--hash=sha256:" in line:
            found.setdefault(pin, []).append(line.partition("sha256:")[2].split()[0])
    return found


if __name__ == "__main__":
    main()
