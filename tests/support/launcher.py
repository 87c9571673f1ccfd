"""Runs the product's command line in a process that dies at a crash point.

``python -m tests.support.launcher POINT PASSAGE ARGUMENT…``
"""

import sys

from tests.support.crash_points import arm
from trackdesk_worker.ops.cli import run

if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    sys.exit(run(sys.argv[3:]))
