"""The secret by which the owner of a shared dashboard is known, in a file that nobody else can read."""

import os
import secrets
from pathlib import Path

from merging.core.errors import RunError
from merging.core.files import require_folder

SECRET_FILE = "owner.secret"  # in the workspace
_BYTES = 32
_LENGTH = 43  # letters that these are written with


def owner_secret(home: Path) -> str:
    """The secret of a workspace; drawn when it is first asked for, and the same from then on.

    Raises:
        RunError: others can read the file, or it holds something else.
    """
    require_folder(home)
    path = home / SECRET_FILE
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(_BYTES))
    return _read(path)


def _read(path: Path) -> str:
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise RunError(
            f"{path.name}: others on this machine can read the owner's secret; delete the file, and the next start "
            "makes another"
        )
    found = path.read_text(encoding="utf-8", errors="replace")
    if len(found) != _LENGTH:
        raise RunError(f"{path.name}: holds no secret; delete the file, and the next start makes one")
    return found
