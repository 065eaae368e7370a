"""Options that would do nothing without others are usage errors, not silence."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def refuse_idle_options(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    names: Sequence[str],
    *,
    unless: bool,
    needed: str,
) -> None:
    """End with a usage error if an option was given that nothing will look at.

    Args:
        parser: of the options.
        options: as parsed.
        names: of the options in question, as attributes.
        unless: whether something will look at them.
        needed: what would have to be given, for the error.

    Raises:
        SystemExit: one of them was given, with another value than its default.
    """
    if unless:
        return
    for name in names:
        if getattr(options, name) != parser.get_default(name):
            parser.error(f"argument --{name.replace('_', '-')}: needs {needed}")
