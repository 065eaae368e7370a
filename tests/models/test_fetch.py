"""The cache: finding, checking, fetching by name."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pose_node.errors import CheckpointError, FetchError
from pose_node.models import catalog
from pose_node.models.catalog import KnownModel
from pose_node.models.fetch import (
    cache_directory,
    cache_fault,
    cached_model_path,
    checked_model_path,
    fetch_model,
    file_digest,
    known_digest,
    resolve_model,
)
from tests.models.conftest import SECONDS

WEIGHTS = b"weights" * 50_000
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
CHECKED_BY_USER = "yolov8x-pose"  # the catalogue knows no digest of it


@pytest.fixture
def server(file_server: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The file server, with two models in the catalogue: `tiny`, and `unchecked` without digest."""
    file_server.content = WEIGHTS
    for name, digest in (("tiny", DIGEST), ("unchecked", None)):
        model = KnownModel(
            name=name,
            file_name=f"{name}.pt",
            source=file_server.url,
            licence="AGPL-3.0",
            licence_url="https://example.com",
            sha256=digest,
            num_bytes=None,
            family="yolo11",
            size="n",
            input_size=640,
            parameters=1,
            ap=0.5,
            ap50=0.8,
        )
        monkeypatch.setitem(catalog.KNOWN_MODELS, name, model)
        monkeypatch.setitem(catalog.KNOWN_FILES, name, model)
    return file_server


# --- Where things lie ---------------------------------------------------------------------------


def test_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "pose_node"
    assert cached_model_path("yolo11n-pose") == tmp_path / "pose_node/models/yolo11n-pose.pt"
    assert cached_model_path("sample-video") == tmp_path / "pose_node/videos/sample-video.mp4"


@pytest.mark.parametrize("value", [None, "", "relative/folder"])
def test_cache_is_in_the_home_folder_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if value is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache_directory() == tmp_path / ".cache/pose_node"


def test_no_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("nobody")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(FetchError, match="set XDG_CACHE_HOME"):
        cache_directory()


def test_unknown_name_has_no_place() -> None:
    with pytest.raises(FetchError, match="'nothing' is not a name"):
        cached_model_path("nothing")


def test_neither_catalogue_nor_downloads_import_torch() -> None:
    code = "import sys, pose_node.models.fetch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- Fetching -----------------------------------------------------------------------------------


def test_fetch_puts_the_checked_file_in_its_place(server: Any) -> None:
    path = fetch_model("tiny")
    assert path == cached_model_path("tiny")
    assert path.read_bytes() == WEIGHTS
    assert path.stat().st_mode & 0o777 == 0o644 & ~_umask()
    assert sorted(p.name for p in path.parent.iterdir()) == [".tiny.pt.lock", "tiny.pt"]
    assert checked_model_path("tiny") == path


def test_second_fetch_downloads_nothing(server: Any) -> None:
    fetch_model("tiny")
    fetch_model("tiny")
    assert len(server.ranges) == 1


def test_fetch_repairs_a_damaged_file(server: Any) -> None:
    path = fetch_model("tiny")
    path.write_bytes(WEIGHTS[:-1])
    assert checked_model_path("tiny") is None
    assert fetch_model("tiny").read_bytes() == WEIGHTS


def test_wrong_content_is_thrown_away(server: Any) -> None:
    server.content = b"something else"
    with pytest.raises(
        FetchError, match=f"{hashlib.sha256(b'something else').hexdigest()}.*{DIGEST}"
    ):
        fetch_model("tiny")
    assert [p.name for p in cached_model_path("tiny").parent.iterdir()] == [".tiny.pt.lock"]


def test_wrong_content_leaves_the_old_file_alone(server: Any) -> None:
    path = cached_model_path("tiny")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old")
    server.content = b"something else"
    with pytest.raises(FetchError, match="thrown away"):
        fetch_model("tiny")
    assert path.read_bytes() == b"old"


def test_cut_download_is_completed_by_running_again(server: Any) -> None:
    server.cut_after = 100_000
    with pytest.raises(FetchError, match="run it again"):
        fetch_model("tiny")
    assert not cached_model_path("tiny").exists()
    server.cut_after = None
    assert fetch_model("tiny").read_bytes() == WEIGHTS
    assert server.ranges == [None, "bytes=100000-"]


def test_joined_parts_that_do_not_match_are_thrown_away(server: Any) -> None:
    server.content, server.cut_after = b"x" * len(WEIGHTS), 1000
    with pytest.raises(FetchError, match="cut"):
        fetch_model("tiny")
    server.content, server.cut_after = WEIGHTS, None  # the same version mark: a lying server
    with pytest.raises(FetchError, match="thrown away"):
        fetch_model("tiny")
    assert fetch_model("tiny").read_bytes() == WEIGHTS


def test_two_at_once_download_once(server: Any) -> None:
    start = threading.Barrier(2)
    paths: list[Path] = []

    def fetch() -> None:
        start.wait()
        paths.append(fetch_model("tiny"))

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [cached_model_path("tiny")] * 2
    assert len(server.ranges) == 1


def fetching(server: Any) -> subprocess.Popen[bytes]:
    """The command, in a process of its own."""
    arguments = [CHECKED_BY_USER, "--url", server.url, "--sha256", DIGEST]
    return subprocess.Popen([sys.executable, "-m", "pose_node", "fetch", *arguments])


def wait_for_lock(process: subprocess.Popen[bytes]) -> None:
    """Until it holds the lock of the file, or waits for it. (Nobody can be told of that.)"""
    lock = cached_model_path(CHECKED_BY_USER)
    lock = lock.with_name(f".{lock.name}.lock")
    end = time.monotonic() + SECONDS
    while not any(file.resolve() == lock for file in Path(f"/proc/{process.pid}/fd").iterdir()):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("killed", [False, True])
def test_two_processes_download_once(server: Any, killed: bool) -> None:
    server.go_on.clear()
    first = fetching(server)
    assert server.asked.acquire(timeout=SECONDS)
    second = fetching(server)
    wait_for_lock(second)
    assert len(server.ranges) == 1
    if killed:
        first.kill()
    server.go_on.set()
    assert first.wait(SECONDS) == (-signal.SIGKILL if killed else 0)
    assert second.wait(SECONDS) == 0
    assert len(server.ranges) == (2 if killed else 1)
    assert cached_model_path(CHECKED_BY_USER).read_bytes() == WEIGHTS


def test_another_address_can_be_given(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = KnownModel(
        **{**vars(catalog.KNOWN_MODELS["tiny"]), "source": "https://nowhere.invalid"}
    )
    monkeypatch.setitem(catalog.KNOWN_FILES, "tiny", broken)
    assert fetch_model("tiny", url=server.url).read_bytes() == WEIGHTS


def test_larger_than_published_is_refused(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small = KnownModel(**{**vars(catalog.KNOWN_MODELS["tiny"]), "num_bytes": 10})
    monkeypatch.setitem(catalog.KNOWN_FILES, "tiny", small)
    with pytest.raises(FetchError, match="350000 bytes, expected at most 10"):
        fetch_model("tiny")


def test_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(FetchError, match=r"cannot write .*XDG_CACHE_HOME"):
        fetch_model("yolo11n-pose")


def test_full_disk(server: Any) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full missing: only Linux has it")
    path = cached_model_path("tiny")
    path.parent.mkdir(parents=True)
    path.with_name("tiny.pt.partial").symlink_to("/dev/full")
    with pytest.raises(FetchError, match="No space left"):
        fetch_model("tiny")
    assert not path.exists()


# --- Models whose digest is not known -----------------------------------------------------------


def test_unknown_digest_needs_the_users_word(server: Any) -> None:
    with pytest.raises(FetchError, match=r"--sha256.*--trust-first-download"):
        fetch_model("unchecked")
    assert server.ranges == []


def test_first_download_is_trusted_and_recorded(server: Any) -> None:
    path = fetch_model("unchecked", trust_first_download=True)
    assert known_digest("unchecked") == DIGEST
    assert path.with_name("unchecked.pt.sha256").read_text() == f"{DIGEST}  unchecked.pt\n"
    assert checked_model_path("unchecked") == path
    fetch_model("unchecked")
    assert len(server.ranges) == 1


def test_later_download_is_checked_against_the_first(server: Any) -> None:
    fetch_model("unchecked", trust_first_download=True).unlink()
    server.content = b"another version"
    with pytest.raises(FetchError, match="thrown away"):
        fetch_model("unchecked", trust_first_download=True)


def test_given_digest_is_checked_and_recorded(server: Any) -> None:
    with pytest.raises(FetchError, match="thrown away"):
        fetch_model("unchecked", sha256="0" * 64)
    fetch_model("unchecked", sha256=DIGEST.upper())
    assert known_digest("unchecked") == DIGEST


def test_file_put_there_by_hand_is_taken_when_the_digest_is_right(server: Any) -> None:
    path = cached_model_path("unchecked")
    path.parent.mkdir(parents=True)
    path.write_bytes(WEIGHTS)
    assert checked_model_path("unchecked") is None
    fetch_model("unchecked", sha256=DIGEST)
    assert checked_model_path("unchecked") == path
    assert server.ranges == []


def test_digest_that_contradicts_the_known_one(server: Any) -> None:
    with pytest.raises(FetchError, match=f"known to have the SHA-256 {DIGEST}"):
        fetch_model("tiny", sha256="0" * 64)


def test_digest_that_is_none(server: Any) -> None:
    with pytest.raises(FetchError, match="64 hexadecimal digits, got 'abc'"):
        fetch_model("unchecked", sha256="abc")


def test_damaged_record_counts_as_none(server: Any) -> None:
    fetch_model("unchecked", trust_first_download=True)
    cached_model_path("unchecked").with_name("unchecked.pt.sha256").write_bytes(b"\xff\xfe")
    assert known_digest("unchecked") is None


# --- What a user means by a model ---------------------------------------------------------------


def test_name_means_the_file_in_the_cache(server: Any, tmp_path: Path) -> None:
    path = fetch_model("tiny")
    assert resolve_model("tiny") == path


def test_path_means_that_file(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(b"x")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_model(path) == path
    assert resolve_model(str(path)) == path
    assert resolve_model("~/best.pt") == path


def test_model_that_was_not_fetched(cache: Path) -> None:
    with pytest.raises(CheckpointError, match="run `pose-node fetch yolov8n-pose`"):
        resolve_model("yolov8n-pose")


def test_model_that_was_changed(server: Any) -> None:
    fetch_model("tiny").write_bytes(b"hostile")
    with pytest.raises(CheckpointError, match="SHA-256 is not the expected one"):
        resolve_model("tiny")


@pytest.mark.parametrize("text", ["yolo11n-pos", "yolo11n-pose.pt"])
def test_close_name_is_suggested(cache: Path, text: str) -> None:
    with pytest.raises(CheckpointError, match=r"neither a file nor .*'yolo11n-pose'"):
        resolve_model(text)


def test_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a file"):
        resolve_model(tmp_path)


def test_file_digest_is_that_of_hashlib(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(WEIGHTS)
    assert file_digest(tmp_path / "x") == DIGEST


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


# --- Who may write ------------------------------------------------------------------------------


@pytest.fixture
def lax_umask() -> Iterator[None]:
    """Files are made writable by everybody, as far as their maker does not say otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_nobody_else_may_write_to_the_cache(server: Any, lax_umask: None, cache: Path) -> None:
    fetch_model("tiny")
    fetch_model("unchecked", trust_first_download=True)
    made = list(cache.rglob("*"))
    assert {path.name for path in made if path.is_file()} == {
        *("tiny.pt", "unchecked.pt", "unchecked.pt.sha256"),
        *(".tiny.pt.lock", ".unchecked.pt.lock"),
    }
    for path in (cache, *made):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_part_of_a_download_is_ours_alone(server: Any, lax_umask: None, cache: Path) -> None:
    server.cut_after = 1000
    with pytest.raises(FetchError, match="cut after"):
        fetch_model("tiny")
    for name in ("tiny.pt.partial", "tiny.pt.partial.version"):
        assert (cache / "models" / name).stat().st_mode & 0o777 == 0o644


def test_base_folder_is_private(server: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = cache / "of_its_own"
    monkeypatch.setenv("XDG_CACHE_HOME", str(base))
    fetch_model("tiny")
    assert base.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("folder", ["", "models"])
def test_cache_that_anybody_may_write_to(server: Any, cache: Path, folder: str) -> None:
    fetch_model("tiny")
    (cache / folder).chmod(0o777)
    with pytest.raises(CheckpointError, match=f"chmod o-w {cache / folder}`"):
        resolve_model("tiny")
    (cache / "models/tiny.pt").unlink()
    with pytest.raises(FetchError, match=f"chmod o-w {cache / folder}`"):
        fetch_model("tiny")
    (cache / folder).chmod(0o775)  # a group may: it is often of one user
    assert resolve_model(fetch_model("tiny")).name == "tiny.pt"


@pytest.mark.parametrize(
    ("user", "owner", "good"),
    [(1000, 1000, True), (1000, 0, True), (1000, 1001, False), (0, 1001, True)],
)
def test_cache_of_another_user(
    server: Any, monkeypatch: pytest.MonkeyPatch, user: int, owner: int, good: bool
) -> None:
    fetch_model("tiny")
    stat_of = Path.stat

    def owned(path: Path, **options: Any) -> Any:
        found = list(stat_of(path, **options))
        found[4] = owner
        return os.stat_result(found)

    monkeypatch.setattr(os, "getuid", lambda: user)
    monkeypatch.setattr(Path, "stat", owned)
    if good:
        assert resolve_model("tiny").name == "tiny.pt"
        return
    with pytest.raises(CheckpointError, match=r"another user \(number 1001, we are 1000\)"):
        resolve_model("tiny")


def test_cache_that_is_not_there_yet_has_no_fault(cache: Path) -> None:
    assert cache_fault(cache / "models/tiny.pt") is None
