"""The worker process. It imports everything before it drops root's privileges: perhaps only root can read the modules."""

from __future__ import annotations

import os
import sys

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy is used for page checksums, not for matrices

from strongroom.worker._run import main

if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # do not wait for threads that still wait for a store
