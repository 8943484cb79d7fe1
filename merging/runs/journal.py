"""Where a table of runs lies, and the journal that is safe there.

SQLite's write-ahead log needs memory that all who have the file open share, which is that of one machine
(https://www.sqlite.org/wal.html). On a folder that other machines reach, such as a home of a cluster, a rollback
journal is kept: it needs no more than locks on the file, and everybody waits for everybody's writing.
"""

import platform
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from merging.core.errors import RunError

# File systems that several machines, or a machine and its guests, reach at once, as systems call them.
_SERVED = "nfs nfs3 nfs4 cifs smb smb2 smb3 smbfs afpfs afs openafs auristorfs ncpfs davfs davfs2 webdav"
_OF_CLUSTERS = "lustre gpfs beegfs ceph glusterfs gfs2 ocfs2 pvfs2 orangefs panfs wekafs acfs"
_OF_GUESTS = "9p virtiofs vboxsf prl_fs drvfs fakeowner"
_SHARED = frozenset(f"{_SERVED} {_OF_CLUSTERS} {_OF_GUESTS}".split())
_OF_ONE_DISK = ("fuse.ext", "fuse.ntfs", "fuse.exfat", "fuse.fuse-overlayfs", "fuse.zfs", "fuse.bindfs")
_WITHOUT_LOCKS = frozenset(("nolock", "local_lock=all", "local_lock=posix", "localflock", "noflock", "nobrl"))
_MARK = "shared"  # in the table `about`: which machine has found the folder on what


@dataclass(frozen=True)
class Mount:
    """What a folder lies on.

    Attributes:
        kind: of file system, as the system calls it; empty if that can't be known.
        shared: whether other machines may have it, too.
        unlocked: the option by which it was mounted without locks between machines; empty if there is none.
    """

    kind: str
    shared: bool = False
    unlocked: str = ""


@dataclass(frozen=True)
class Journal:
    """How a table of runs is kept.

    Attributes:
        mode: as SQLite calls it: ``wal``, or ``delete`` on a shared folder.
        note: what its users should know, in whole sentences; empty of a folder of this machine.
    """

    mode: str
    note: str = ""


def mount_of(folder: Path) -> Mount:
    """What a folder lies on: the innermost of the mounted file systems that it is in."""
    place = folder.resolve()
    if str(place).startswith("\\\\"):
        return Mount("network share", shared=True)
    try:
        mounted = psutil.disk_partitions(all=True)
    except OSError:  # systems that hide what is mounted
        return Mount("")
    around = [one for one in mounted if place.is_relative_to(one.mountpoint)]
    if not around:
        return Mount("")
    # Of several at one place, the last covers the others.
    _, innermost = max(enumerate(around), key=lambda item: (len(Path(item[1].mountpoint).parts), item[0]))
    options = set(innermost.opts.split(","))
    kind = innermost.fstype.lower()
    fuse = kind.startswith("fuse.") and not kind.startswith(_OF_ONE_DISK)
    shared = kind in _SHARED or fuse or "remote" in options
    return Mount(kind, shared, _first(_WITHOUT_LOCKS & options) if shared else "")


def _first(options: Iterable[str]) -> str:
    return min(options, default="")


def take_journal(connection: sqlite3.Connection, folder: Path) -> Journal:
    """Have the table of a folder kept by the journal that is safe there; to be called first on a connection.

    A folder that one machine reaches over a network is a disk of another's. So that this one does not take the
    write-ahead log up again, the table says of itself that it is shared.

    Raises:
        RunError: it is kept by a write-ahead log that another program uses at the moment.
    """
    mount = mount_of(folder)
    if not mount.shared:
        mark = _mark(connection)
        if not mark:
            return Journal(str(connection.execute("pragma journal_mode = wal").fetchone()[0]))
        machine, _, kind = mark.partition("\n")
        _rollback(connection, folder)
        return Journal("delete", _said(f"can be reached over a network, from {machine or 'elsewhere'} by {kind}"))
    connection.execute("pragma locking_mode = exclusive")  # a log that is there is read without shared memory
    _rollback(connection, folder)
    if not _mark(connection):
        connection.execute("create table if not exists about (key text primary key, value text not null)")
        value = f"{platform.node()}\n{mount.kind}"
        connection.execute("insert or ignore into about values (?, ?)", (_MARK, value))
    connection.execute("pragma locking_mode = normal")
    without = ""
    if mount.unlocked:
        without = (
            f" It is mounted without locks between machines ({mount.unlocked}): two at once would damage the table; "
            "use it from one machine at a time."
        )
    return Journal("delete", _said(f"lies on a file system that machines share ({mount.kind})") + without)


def _said(where: str) -> str:
    return (
        f"The folder for runs {where}, where SQLite's write-ahead log is not safe: its table is kept with a rollback "
        "journal, which is slower."
    )


def _rollback(connection: sqlite3.Connection, folder: Path) -> None:
    try:
        mode = connection.execute("pragma journal_mode = delete").fetchone()[0]
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        mode = "wal"
    if mode != "delete":
        raise RunError(
            f"{folder.name}: the table of runs lies where several machines reach it, and another program has it open "
            "with a write-ahead log, which is not safe there; end the dashboards, workers and commands that use it on "
            "all machines, and try again"
        )


def _mark(connection: sqlite3.Connection) -> str:
    there = connection.execute("select 1 from sqlite_master where type = 'table' and name = 'about'").fetchone()
    row = connection.execute("select value from about where key = ?", (_MARK,)).fetchone() if there else None
    return "" if row is None else str(row[0])
