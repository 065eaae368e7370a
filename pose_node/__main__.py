"""``python -m pose_node`` is the ``pose-node`` command.

Its processes end cleanly on a signal, however early that comes: so nothing is imported before.
"""

import sys

from pose_node.ros.entry import PROCESSES, end_quietly


def main() -> int:
    """Run the command line of this process. Returns the exit code, see `pose_node.cli.main`."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in PROCESSES:
        end_quietly(command)
    try:
        from pose_node.cli import main as run
    except KeyboardInterrupt:
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
