"""A bad network cable in user space, for kernels without netem.

    python benchmarks/lossy_link.py computer robot --loss 0.01 --delay-ms 20

Makes two TAP devices of these names and carries Ethernet frames between them, each way with the
given loss and delay, until it is interrupted. Whoever started it moves one of them into another
network namespace. Prints a line when the devices are there, and at the end what it carried.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import select
import signal
import struct
import sys
import time
from collections import deque

_SET_INTERFACE = 0x400454CA  # TUNSETIFF
_TAP_WITHOUT_HEADER = 0x0002 | 0x1000  # IFF_TAP | IFF_NO_PI
_FRAME_BYTES = 65536


class Direction:
    """Frames on their way from one device to the other."""

    def __init__(self, source: int, target: int, loss: float, delay: float) -> None:
        self.source, self.target = source, target
        self.carried = self.dropped = 0
        self._loss, self._delay = loss, delay
        self._random = random.Random(source)  # noqa: S311 - the same losses every time
        self._waiting: deque[tuple[float, bytes]] = deque()

    def receive(self) -> None:
        """Take what the source has sent."""
        while True:
            try:
                frame = os.read(self.source, _FRAME_BYTES)
            except BlockingIOError:
                return
            if self._random.random() < self._loss:
                self.dropped += 1
            else:
                self._waiting.append((time.monotonic() + self._delay, frame))

    def deliver(self) -> float | None:
        """Hand over what is due; seconds until the next frame is."""
        while self._waiting:
            left = self._waiting[0][0] - time.monotonic()
            if left > 0:
                return left
            try:
                os.write(self.target, self._waiting.popleft()[1])
                self.carried += 1
            except OSError:  # the device is down
                self.dropped += 1
        return None


def main() -> int:
    """Carry frames until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("devices", nargs=2, metavar="NAME")
    parser.add_argument("--loss", type=float, default=0.0, help="share of frames, each way")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="each way")
    options = parser.parse_args()
    one, other = (_open_tap(name) for name in options.devices)
    delay = options.delay_ms / 1e3
    ways = [Direction(*pair, options.loss, delay) for pair in ((one, other), (other, one))]
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.append(1))
    print("ready", flush=True)
    poll = select.poll()
    for way in ways:
        poll.register(way.source, select.POLLIN)
    while not ended:
        due = [seconds for way in ways if (seconds := way.deliver()) is not None]
        ready = {number for number, _ in poll.poll(1e3 * min([*due, 0.5]))}
        for way in ways:
            if way.source in ready:
                way.receive()
    for way, name in zip(ways, options.devices, strict=True):
        print(f"from {name}: {way.carried} frames carried, {way.dropped} dropped", flush=True)
    return 0


def _open_tap(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _SET_INTERFACE, struct.pack("16sH22x", name.encode(), _TAP_WITHOUT_HEADER))
    return device


if __name__ == "__main__":
    sys.exit(main())
