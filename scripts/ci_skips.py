#!/usr/bin/env python3
"""Fails where a test was skipped that should have run: ``ci_skips.py REPORT.xml``.

In CI everything is there that tests need, apart from a GPU and sometimes namespaces or bfloat16.
So a skip for any other reason is a set-up that silently lost something. Reads pytest's JUnit
report; says nothing where all is well.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ALLOWED = re.compile(r"\b(GPU|CUDA|network namespaces|bfloat16)\b")
"""Reasons of tests that cannot run on every machine: what it has not is named in them."""


def unexpected_skips(report: Path, *, gpu: bool) -> list[str]:
    """The skipped tests of a JUnit report that had no right to be, each with its reason."""
    skips = []
    for case in ElementTree.parse(report).iter("testcase"):
        for skipped in case.iter("skipped"):
            reason = skipped.get("message", "")
            if skipped.get("type") == "pytest.xfail" or (ALLOWED.search(reason) and not gpu):
                continue
            skips.append(f"{case.get('classname')}.{case.get('name')}: {reason}")
    return skips


def has_gpu() -> bool:
    """Whether torch sees a CUDA device."""
    import torch

    return torch.cuda.is_available()


def main() -> int:
    """Prints the skips that should not be; 1 if there are any."""
    skips = unexpected_skips(Path(sys.argv[1]), gpu=has_gpu())
    if skips:
        print(f"{len(skips)} tests were skipped that should have run:", *skips, sep="\n  ")
    return 1 if skips else 0


if __name__ == "__main__":
    sys.exit(main())
