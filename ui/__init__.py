"""What the pages of the dashboard share."""

import os

# Dashboard and worker share the machine's cores: threads that wait for each other must sleep, not spin. Read when
# torch is loaded, so it stands before everything else.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
