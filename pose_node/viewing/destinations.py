"""Where a recording goes: into a file, to the viewer on this screen, or to browsers."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pose_node.errors import OutputError, ViewError
from pose_node.output_files import unfinished
from pose_node.viewing.sdk import load_rerun

APPLICATION = "pose_node"

_PATIENCE = 60.0  # seconds that the viewer may take for what is left


class Destination(Protocol):
    """An open recording."""

    @property
    def stream(self) -> Any:
        """The `rerun.RecordingStream`."""

    def close(self) -> str:
        """Finish it; what became of it, in a sentence."""

    def abort(self) -> None:
        """Leave nothing unfinished behind."""


class File:
    """A recording in a file, which gets its name when it is complete.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = unfinished(path)
        self.stream = _new_stream()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _PipedFile(self._temporary)
            self._file.let_in(self.stream.save)
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                self._temporary.unlink()
            raise self._failed(error) from error

    def close(self) -> str:
        """Write what is left, and rename the file."""
        try:
            self.stream.flush()
            self.stream.disconnect()
            self._file.finish()
            os.replace(self._temporary, self.path)
        except (OSError, RuntimeError) as error:
            self.abort()
            raise self._failed(error) from error
        return f"{self.path} is written; `rerun {self.path}` shows it"

    def abort(self) -> None:
        """Delete the file."""
        self.stream.disconnect()
        with contextlib.suppress(OSError):
            self._file.finish()
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def _failed(self, error: Exception) -> OutputError:
        reason = error.strerror if isinstance(error, OSError) else None
        return OutputError(f"cannot write {self.path}: {reason or error}")


class _PipedFile:
    """A file that Rerun writes through a pipe.

    Where Rerun cannot write, on a disk that is full, it waits for ever, and keeps the process from
    ending. A pipe can always be written to, and tells nothing of where it leads.
    """

    def __init__(self, path: Path) -> None:
        self._error: OSError | None = None
        self._file = path.open("wb")
        self._out, self._in = os.pipe()
        self._thread = threading.Thread(target=self._copy, name="viewer file", daemon=True)
        self._thread.start()

    def let_in(self, write_to: Callable[[str], None]) -> None:
        """Give the way in to somebody who opens it by its name, and closes it at the end."""
        try:
            write_to(f"/dev/fd/{self._in}")
        finally:
            os.close(self._in)

    def finish(self) -> None:
        """Wait until all is written; whoever writes must have closed the way in.

        Raises:
            OSError: it could not be written.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _copy(self) -> None:
        with open(self._out, "rb", buffering=0) as pipe:
            try:
                with self._file:
                    while content := pipe.read(1 << 20):
                        self._file.write(content)
            except OSError as error:
                self._error = error
                while pipe.read(1 << 20):  # taken and dropped
                    pass


@dataclass(frozen=True)
class Ports:
    """Of a server.

    Attributes:
        web: of the page.
        data: of what the page asks for; browsers must reach it, too.
    """

    web: int = 9090
    data: int = 9876


class Server:
    """A server for browsers; the page and the viewer in it come from this machine alone.

    Rerun listens on all of the machine's addresses, so whoever reaches the ports sees the images.

    Args:
        ports: where to listen.
        host: what browsers call this machine. Its page may ask for the data; pages of others,
            apart from localhost, may not.
        memory: what is kept for browsers that come later, such as "1GiB"; the oldest is dropped.

    Raises:
        ViewError: a port is taken, or the server cannot start.
    """

    def __init__(self, ports: Ports, *, host: str = "localhost", memory: str) -> None:
        rerun = load_rerun()
        for port in (ports.web, ports.data):
            _check_free(port)
        self.stream = _new_stream()
        others = (
            {} if host == "localhost" else {"cors_allow_origin": [f"http://{host}:{ports.web}"]}
        )
        try:
            address = self.stream.serve_grpc(
                grpc_port=ports.data, server_memory_limit=memory, **others
            )
            rerun.serve_web_viewer(web_port=ports.web, open_browser=False, connect_to=address)
        except (RuntimeError, ValueError) as error:
            raise ViewError(f"the server for the viewer cannot start: {error}") from error
        data = f"rerun%2Bhttp://{host}:{ports.data}/proxy"
        self.address = f"http://{host}:{ports.web}/?url={data}"

    def close(self) -> str:
        """End it."""
        self.stream.disconnect()
        return "the viewer's server has ended"

    def abort(self) -> None:
        """End it."""
        self.stream.disconnect()


class Window:
    """The viewer as a program on this screen; it stays when this process ends.

    Args:
        memory: what the viewer keeps, such as "2GiB" or "50%".

    Raises:
        ViewError: there is no screen, or the viewer cannot start.
    """

    def __init__(self, *, memory: str) -> None:
        if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
            raise ViewError(
                "there is no screen to show the viewer on; --save FILE.rrd writes a recording, "
                "--serve serves it to a browser"
            )
        self.stream = _new_stream()
        try:
            self.stream.spawn(memory_limit=memory)
        except RuntimeError as error:
            raise ViewError(f"the viewer cannot start: {error}") from error

    def close(self) -> str:
        """Give the viewer the rest.

        Raises:
            ViewError: it does not take it.
        """
        try:
            self.stream.flush(timeout_sec=_PATIENCE)
        except RuntimeError as error:
            raise ViewError(f"the viewer did not take everything: {error}") from error
        self.stream.disconnect()
        return "the viewer has everything"

    def abort(self) -> None:
        """Leave the viewer alone."""
        self.stream.disconnect()


def _new_stream() -> Any:
    return load_rerun().RecordingStream(APPLICATION)


def _check_free(port: int) -> None:
    """Rerun starts beside another server on its port, and shows that one's data."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ViewError(
                f"port {port} cannot be used ({error.strerror}); choose others with --port and "
                "--data-port"
            ) from error
