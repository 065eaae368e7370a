"""``python -m pose_node`` is the ``pose-node`` command."""

import sys

from pose_node.cli import main

sys.exit(main())
