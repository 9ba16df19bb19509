"""One thread for every process that tests start: `make test` runs as many processes as there are processors."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before Paddle is imported, and for the programs that tests start
