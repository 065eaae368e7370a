"""Loads model files one at a time, each in a process of its own, and reports what they did.

    python -m tests.models.hostile_run FOLDER

A process of its own (run by test_hostile_files.py), because what it looks for cannot be undone: a
child for every file has little memory and processor time, and an audit hook that notes whatever
could do harm. Prints one line of JSON for each file.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from pose_node.errors import CheckpointError
from pose_node.models import load_network

PROCESSOR_SECONDS = 20
ADDRESS_BYTES = 3 << 30  # on top of what the libraries take

_FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile", "os.kill"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link"),
    *("os.symlink", "os.truncate", "os.putenv", "os.unsetenv", "os.setxattr", "os.chdir"),
    *("subprocess.", "pty.", "socket.", "ctypes.", "shutil.", "urllib.", "webbrowser."),
    *("ftplib.", "http.", "smtplib.", "telnetlib.", "tempfile.", "fcntl.", "mmap.", "glob."),
    *("pickle.", "marshal.loads", "code.", "function.", "builtins.input", "sys.settrace"),
    *("sys.setprofile", "gc.", "signal."),
)
# torch imports parts of itself when they are first used.
_IMPORTED = ("torch", "pose_node", "numpy", "safetensors", "encodings", "unicodedata")


def main() -> int:
    """Load every file of a folder."""
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(folder))  # hostile_payload lies there
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".pt", ".safetensors"):
            group = path.name.partition("-")[0]
            # What takes memory is measured alone.
            groups.setdefault(path.name if group == "bomb" else group, []).append(path)
    for paths in groups.values():
        _in_child(paths)
    return 0


def _in_child(paths: list[Path]) -> None:
    child = os.fork()
    if not child:
        status = 1
        try:
            _load_all(paths)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        print(json.dumps({"name": "", "outcome": f"died: {status}, one of {paths[0]} ..."}))


def _load_all(paths: list[Path]) -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ADDRESS_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    events: list[str] = []
    watching = [False]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching[0] and _is_harmful(event, arguments):
            events.append(f"{event} {arguments!r:.200}")

    sys.addaudithook(watch)
    for path in paths:
        used = int(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (used + PROCESSOR_SECONDS, resource.RLIM_INFINITY))
        events.clear()
        report = _load(path, watching)
        print(json.dumps({"name": path.stem, "events": events, **report}), flush=True)


def _load(path: Path, watching: list[bool]) -> dict[str, Any]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    text = ""
    watching[0] = True
    try:
        load_network(path)
        outcome = "loaded"
    except CheckpointError as error:
        outcome, text = "refused", str(error)
    except BaseException as error:  # noqa: BLE001  whatever else it is, it is to be reported
        outcome, text = type(error).__name__, str(error)[:500]
    watching[0] = False
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "outcome": outcome,
        "text": text[:2000],
        "length": len(text),
        "seconds": time.process_time() - started,
        "bytes": 1024 * (after - before),
    }


def _is_harmful(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        mode, flags = arguments[1], arguments[2] or 0
        writes = isinstance(mode, str) and bool(set(mode) & set("wax+"))
        return writes or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND))
    if event == "import":
        return not str(arguments[0]).startswith(_IMPORTED)
    if event in ("exec", "compile"):
        source = getattr(arguments[0], "co_filename", None) or arguments[-1]
        return str(source).startswith("<") and not str(source).startswith("<frozen")
    return event.startswith(_FORBIDDEN)


if __name__ == "__main__":
    sys.exit(main())
