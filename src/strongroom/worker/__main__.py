"""The worker process. All is imported before it gives up root: its modules may lie where only root can read."""

from __future__ import annotations

import os
import sys

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy is for pages here, and not for matrices

from strongroom.worker._run import main

if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # a thread that still waits for a store must not hold us up
