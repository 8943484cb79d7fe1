"""``python -m merging``."""

import os

# On a machine with other work, threads that spin while they wait for each other cost more than half of the speed.
# Read when torch is loaded, so it stands before everything else.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from merging.cli import main

if __name__ == "__main__":
    main(prog_name="python -m merging")
