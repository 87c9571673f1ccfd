"""Runs the product's command line in a process that dies at a crash point, with a planted bug if a variable names one.

``python -m tests.support.launcher POINT PASSAGE ARGUMENT…``
"""

import os
import sys

from tests.support.crash_points import arm
from tests.support.planted import VARIABLE, plant
from trackdesk_worker.cli import run

if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    if os.environ.get(VARIABLE):
        plant(os.environ[VARIABLE])
    sys.exit(run(sys.argv[3:]))
