"""Camera and node on two computers: what arrives over a good link, a bad one, a broken one.

    python benchmarks/network.py [CASE ...] [--seconds 15] [--json network.json]

The two computers are network namespaces of this machine with a cable between them, each with a
/dev/shm of its own, so that nothing but UDP connects the processes. No root is needed where users
may make namespaces. Loss and delay are those of `tc netem` where the kernel has it, else of
lossy_link.py; they hold each way. The node computes on small images, so that the network is what is
measured. It measures and asserts nothing; exit code 2 where namespaces are not permitted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pose_node.models.fetch import cached_model_path

HERE = Path(__file__).resolve().parent
SPACES = ("--net", "--mount", "--ipc")
COMPUTER, ROBOT = "computer", "robot"  # the two ends of the cable
WARM_UP_SECONDS = 4.0


@dataclass(frozen=True)
class Case:
    """A link and how it is used.

    Attributes:
        name: to choose it by.
        transport: of the images, "raw" or "compressed".
        loss: share of packets that the link loses, each way.
        delay_ms: of the link, each way.
        reliability: of both ends, "best_effort" (the node's default) or "reliable".
        profile: file name in config/.
        size: of the images.
        jpeg_quality: of compressed ones.
        tuned: the kernel keeps parts of datagrams for 3 s, not 30, and has 128 MiB for them.
        down_seconds: break the link for so long.
    """

    name: str
    transport: str = "compressed"
    loss: float = 0.0
    delay_ms: float = 0.0
    reliability: str = "best_effort"
    profile: str = "fastdds.xml"
    size: str = "1280x720"
    jpeg_quality: int = 90
    tuned: bool = False
    down_seconds: float = 0.0


def _lossy(percent: int) -> tuple[Case, ...]:
    bad = Case(f"loss-{percent}", loss=percent / 100, delay_ms=20.0)
    change = dataclasses.replace
    small = change(bad, name=f"{bad.name}-small", size="640x360", jpeg_quality=70)
    wireless = "fastdds_wireless.xml"
    return (
        bad,
        change(bad, name=f"{bad.name}-reliable", reliability="reliable"),
        change(bad, name=f"{bad.name}-tuned", tuned=True),
        change(bad, name=f"{bad.name}-tuned-reliable", tuned=True, reliability="reliable"),
        change(bad, name=f"{bad.name}-wireless", profile=wireless),
        change(bad, name=f"{bad.name}-wireless-reliable", profile=wireless, reliability="reliable"),
        small,
        change(small, name=f"{small.name}-tuned-reliable", tuned=True, reliability="reliable"),
        change(
            *(small,), name=f"{small.name}-wireless-reliable", profile=wireless,
            reliability="reliable",
        ),
    )  # fmt: skip


CASES = (
    Case("raw", transport="raw"),
    Case("raw-reliable", transport="raw", reliability="reliable"),
    Case("raw-wireless-reliable", transport="raw", reliability="reliable",
         profile="fastdds_wireless.xml"),
    Case("compressed"),
    *_lossy(1),
    *_lossy(5),
    Case("down-5", down_seconds=5.0),
    Case("down-10", down_seconds=10.0),
    Case("down-30", down_seconds=30.0),
)  # fmt: skip


def main() -> int:
    """Run the cases, each in namespaces of its own; print a table, write JSON."""
    options = _parse()
    if options.inside:
        (case,) = (case for case in CASES if case.name == options.cases[0])
        print(json.dumps(measure(case, options)))
        return 0
    enter = ["unshare", "--user", "--map-root-user", *SPACES]
    if (reason := why_not(enter)) is not None:
        print(f"network: {reason}", file=sys.stderr)
        return 2
    results = []
    for case in CASES:
        if options.cases and case.name not in options.cases:
            continue
        command = [*enter, sys.executable, __file__, case.name, "--inside"]
        for name in ("seconds", "rate", "image_size"):
            command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"network: {case.name} failed", file=sys.stderr)
            return 1
        results.append(json.loads(done.stdout.splitlines()[-1]))
        _print(results[-1], header=len(results) == 1)
    if options.json:
        result = {
            "command": " ".join([Path(sys.executable).name, *sys.argv]),
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}",
            "cases": results,
        }
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def why_not(enter: list[str]) -> str | None:
    """Why namespaces cannot be made here; None if they can."""
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            return f"there is no program {program}; install it (apt install iproute2 util-linux)"
    tried = subprocess.run([*enter, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"network namespaces are not permitted here: {tried.stderr.strip()}"
    return None


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    names = [case.name for case in CASES]
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(names)}; or all")
    parser.add_argument("--seconds", type=float, default=15.0, help="of measuring, for each")
    parser.add_argument("--rate", type=float, default=30.0, help="images a second")
    parser.add_argument("--image-size", type=int, default=256, help="what the network sees")
    parser.add_argument("--json", help="write the results there")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.cases) - set(names):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return options


# --- In the namespace of the computer with the node ----------------------------------------------


def measure(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Run one case. This process is alone in its namespaces."""
    from pose_node.ros.transport import PROFILE_VARIABLES, prepare_process

    prepare_process()
    for variable in PROFILE_VARIABLES:
        if variable in os.environ:
            os.environ[variable] = str(HERE.parent / "config" / case.profile)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"
    import rclpy
    from processes import NAMESPACE, Listener, start, start_node, stop

    suffix = "/compressed" if case.transport == "compressed" else ""
    topic = f"{NAMESPACE}/image_raw{suffix}"
    with ExitStack() as stack:
        robot = _start_robot(stack)
        emulation = _connect(robot, case, stack)
        if case.tuned:
            for name, value in (("ipfrag_time", "3"), ("ipfrag_high_thresh", str(128 << 20))):
                Path(f"/proc/sys/net/ipv4/{name}").write_text(value, encoding="utf-8")
        rclpy.init()
        stack.callback(rclpy.try_shutdown)
        listener = Listener()
        stack.callback(listener.destroy_node)
        node = start_node(
            *(listener, f"image_transport:={case.transport}", "diagnostics_period:=0.2"),
            *(f"image_size:={options.image_size}", "device:=cpu"),
            f"qos_overrides.{topic}.subscription.reliability:={case.reliability}",
        )
        stack.callback(stop, node)
        camera = start(
            *("camera", str(cached_model_path("sample-video")), "--loop"),
            *("--rate", str(options.rate), "--size", case.size, "--transport", case.transport),
            *("--jpeg-quality", str(case.jpeg_quality), "--reliability", case.reliability),
            inside=_in(robot),
            log=subprocess.PIPE,
        )
        stack.callback(stop, camera)
        found = listener.spin(30.0, lambda: len(listener.ages_ms) > 0)
        result = {**dataclasses.asdict(case), "link": emulation, "connected": found}
        if case.down_seconds:
            result |= _break_link(listener, case.down_seconds, options)
        else:
            result |= _watch(listener, options)
            result |= _compare_with_sent(result, camera)
    return result


def _watch(listener: Any, options: argparse.Namespace) -> dict[str, Any]:
    """What arrives in some seconds."""
    import numpy as np

    listener.spin(min(WARM_UP_SECONDS, options.seconds))
    _next_report(listener)
    before, since, received = listener.counts(), listener.reported, _received_bytes()
    listener.ages_ms.clear()
    listener.spin(options.seconds)
    _next_report(listener)
    seconds = listener.reported - since
    counted = {name: value - before[name] for name, value in listener.counts().items()}
    ages = listener.ages_ms
    return {
        "images per second": counted["received"] / seconds,
        # Of the node's last ten seconds.
        "arrival age ms p50/p95": listener.diagnostics.get("arrival age ms p50/p95", "-"),
        "pose age ms p50/p95": [float(age) for age in np.percentile(ages, (50, 95))]
        if ages
        else [],
        "poses per second": len(ages) / seconds,
        "link MB/s": (_received_bytes() - received) / seconds / 1e6,
        "counted": counted,
    }


def _compare_with_sent(result: dict[str, Any], camera: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Stop the camera and ask it how many images it has sent; a busy machine sends fewer."""
    from processes import stop

    stop(camera)
    assert camera.stderr is not None
    told = re.search(rb"published (\d+) frames of .* in ([\d.]+) s", camera.stderr.read())
    sent = float(told[1]) / float(told[2]) if told else float("nan")
    return {"sent per second": sent, "arrived": result["images per second"] / sent}


def _break_link(listener: Any, seconds: float, options: argparse.Namespace) -> dict[str, Any]:
    """Break the link, mend it, and see when people come again."""
    listener.ages_ms.clear()
    listener.spin(watched := min(3.0, options.seconds))
    before = len(listener.ages_ms)
    _run("ip", "link", "set", COMPUTER, "down")
    listener.spin(1.0)  # what was on its way
    listener.ages_ms.clear()
    listener.spin(seconds - 1.0)
    during = len(listener.ages_ms)
    message = dict(listener.diagnostics)
    _run("ip", "link", "set", COMPUTER, "up")
    mended = time.monotonic()
    found = listener.spin(60.0, lambda: len(listener.ages_ms) > during)
    back = time.monotonic() - mended
    listener.ages_ms.clear()
    listener.spin(watched)
    return {
        "poses per second before": before / watched,
        "poses while down": during,
        "input rate while down": message.get("input rate Hz", "-"),
        "seconds from link to poses": back if found else None,
        "poses per second after": len(listener.ages_ms) / watched,
    }


def _next_report(listener: Any) -> None:
    last = listener.reported
    listener.spin(5.0, lambda: listener.reported > last)


def _received_bytes() -> int:
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        if line.strip().startswith(f"{COMPUTER}:"):
            return int(line.partition(":")[2].split()[0])
    return 0


# --- The link -------------------------------------------------------------------------------------


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


def _start_robot(stack: ExitStack) -> int:
    """Namespaces for the camera, held by a process; its id."""
    own_memory = "mount -t tmpfs -o size=512m tmpfs /dev/shm && ip link set lo up"
    _run("sh", "-c", own_memory)
    wait = f"{own_memory} && echo ready && exec sleep infinity"
    holder = subprocess.Popen(
        ["unshare", *SPACES, "sh", "-c", wait],  # noqa: S607 - wherever the system has it
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(holder.wait)
    stack.callback(holder.kill)
    _expect_ready(holder.stdout)
    return holder.pid


def _in(robot: int) -> list[str]:
    return ["nsenter", "--target", str(robot), *SPACES, "--"]


def _connect(robot: int, case: Case, stack: ExitStack) -> str:
    """Lay a cable to the robot; how its loss and delay are made."""
    bad = case.loss > 0 or case.delay_ms > 0
    netem = ["netem", "loss", f"{100 * case.loss}%", "delay", f"{case.delay_ms}ms"]
    if bad and not _has_netem():
        link = subprocess.Popen(
            [
                *(sys.executable, str(HERE / "lossy_link.py"), COMPUTER, ROBOT),
                *("--loss", str(case.loss), "--delay-ms", str(case.delay_ms)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(link.wait)
        stack.callback(link.terminate)
        _expect_ready(link.stdout)
        bad, emulation = False, "lossy_link.py"
    else:
        _run("ip", "link", "add", COMPUTER, "type", "veth", "peer", "name", ROBOT)
        emulation = "veth, netem" if bad else "veth"
    _run("ip", "link", "set", ROBOT, "netns", str(robot))
    here: list[str] = []
    ends = ((COMPUTER, here, "10.77.0.1/24"), (ROBOT, _in(robot), "10.77.0.2/24"))
    for device, place, address in ends:
        _run(*place, "ip", "address", "add", address, "dev", device)
        _run(*place, "ip", "link", "set", device, "up")
        if bad:
            _run(*place, "tc", "qdisc", "add", "dev", device, "root", *netem)
    return emulation


def _has_netem() -> bool:
    if (tc := shutil.which("tc")) is None:
        return False
    netem = ["dev", "lo", "root", "netem", "delay", "0ms"]
    has = subprocess.run([tc, "qdisc", "add", *netem], capture_output=True, check=False)
    if has.returncode == 0:
        _run("tc", "qdisc", "delete", *netem[:3])
    return has.returncode == 0


def _expect_ready(stream: IO[str] | None) -> None:
    assert stream is not None
    if stream.readline() != "ready\n":
        raise SystemExit("network: the link cannot be made; see above")


def _print(result: dict[str, Any], *, header: bool) -> None:
    if result["down_seconds"]:
        back = result["seconds from link to poses"]
        print(
            f"{result['name']:28} down for {result['down_seconds']:.0f} s: "
            f"{result['poses while down']} poses meanwhile, again "
            + (f"{back:.1f} s after the link" if back is not None else "never (60 s waited)")
        )
        return
    if header:
        print(
            f"{'case':28}{'sent/s':>7}{'arrived':>8}{'images/s':>9}{'link MB/s':>10}  "
            f"{'arrival age ms p50/p95':24}{'pose age ms p50/p95':22}"
        )
    ages = " / ".join(f"{age:.0f}" for age in result["pose age ms p50/p95"]) or "-"
    print(
        f"{result['name']:28}{result['sent per second']:>7.1f}{result['arrived']:>8.1%}"
        f"{result['images per second']:>9.1f}"
        f"{result['link MB/s']:>10.1f}  {result['arrival age ms p50/p95']:24}{ages:22}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
