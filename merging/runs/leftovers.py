"""What killed processes leave in a folder for runs, and taking it away when a server or a worker starts.

Everything finished is whole: rows of the table by SQLite, files since they get their names at the end. What is left is
what was being written; it does no harm, but takes room, which a shared dashboard gives to its guests.
"""

import time

from merging.core.files import remove_leftovers
from merging.runs.deleted import purge
from merging.runs.table import RunStore
from merging.suites.incoming.staging import remove_stale


def clean(store: RunStore) -> None:
    """Remove what nobody goes on with: half-written files, uploads of a day ago, files of runs removed for good."""
    remove_leftovers(store.home)
    remove_stale(store.home, time.time())
    purge(store)
