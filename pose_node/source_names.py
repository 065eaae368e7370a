"""Names of sources as people, and files of results, may see them."""

from __future__ import annotations

import re

_PASSWORD = re.compile(r"(://[^\s/?#:@]*):[^\s/?#]*@")


def shown_name(name: str) -> str:
    r"""A name, or a text with names in it, as it is shown and written.

    Passwords of addresses become ``***``. Bytes of file names that are no UTF-8, which Python keeps
    as lone surrogates, become ``\udce9`` and so on: neither CSV nor Arrow can hold them.
    """
    return _PASSWORD.sub(r"\1:***@", name).encode(errors="backslashreplace").decode()
