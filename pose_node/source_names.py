"""Names of sources as people, and files of results, may see them."""

from __future__ import annotations

import re

# The last @ ends the user's name and password: names may have one, too.
_PASSWORD = re.compile(r"(://[^\s/?#:]*):[^\s/?#]*@")
_SECRET = re.compile(r"([?&](?:pass|passwd|password|pwd|key|token)=)[^\s&#]*", re.IGNORECASE)
_BYTE = re.compile(r"\\u(dc[89a-f][0-9a-f])")


def shown_name(name: str) -> str:
    r"""A name, or a text with names in it, as it is shown and written.

    Passwords in addresses become ``***``. Bytes of file names that are no UTF-8, which Python keeps
    as lone surrogates, become ``\udce9`` and so on: neither CSV nor Arrow can hold them.
    """
    hidden = _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", name))
    return hidden.encode(errors="backslashreplace").decode()


def file_name(shown: str) -> str:
    r"""The name of a file that `shown_name` shows so: with the bytes that ``\udce9`` stands for.

    A name that has such characters of its own, which is allowed, is taken for one of bytes: try the
    name as it is shown first.
    """
    return _BYTE.sub(lambda found: chr(int(found[1], 16)), shown)
