"""Where things lie here: the folder for runs and caches, the dashboard's script, paths as people type them."""

import os
from collections.abc import Iterable
from pathlib import Path

from merging.core.errors import SpecError

_PACKAGE = Path(__file__).resolve().parents[1]
_NAME = "clip-merging"  # as in pyproject.toml
METHODS_VARIABLE = "MERGING_METHODS"
SUITES_VARIABLE = "MERGING_SUITES"


def path_of(given: str | os.PathLike[str]) -> Path:
    """A path as it was typed, with ``~`` at its beginning read as the home folder, as shells do.

    Raises:
        SpecError: it is neither text nor a path, or in the home of a user that there is not.

    >>> path_of("~/models") == Path.home() / "models", path_of("models/~").as_posix()
    (True, 'models/~')
    """
    if not isinstance(given, str | os.PathLike):
        raise SpecError(f"expected a path or a name, got {given!r}")
    path = Path(os.path.expanduser(given))
    if str(path).startswith("~") and not Path(path.parts[0]).exists():
        raise SpecError(f"{path.parts[0]}: there is no such user, and no such folder; write the path in full")
    return path


def checkout() -> Path | None:
    """The top of the repository if the package is used from there; None where it was installed."""
    top = _PACKAGE.parent
    return top if (top / "pyproject.toml").is_file() and (top / "app.py").is_file() else None


def default_home() -> Path:
    """The folder for runs and caches if nobody names one: ``.merging`` in a checkout, else the user's data folder."""
    top = checkout()
    if top is not None:
        return top / ".merging"
    from platformdirs import user_data_path

    return user_data_path(_NAME, appauthor=False)


def chosen_home() -> Path:
    """The folder that ``MERGING_HOME`` names, as for the command line and the dashboard, else the default one."""
    named = os.environ.get("MERGING_HOME")
    return path_of(named) if named else default_home()


def suite_places() -> list[Path]:
    """The folders that ``MERGING_SUITES`` names: suites lie in them or up to two folders below."""
    return [path_of(each) for each in os.environ.get(SUITES_VARIABLE, "").split(os.pathsep) if each]


def method_places() -> tuple[Path, ...]:
    """The folders and files that ``MERGING_METHODS`` names, from which methods of one's own come."""
    named = os.environ.get(METHODS_VARIABLE, "")
    return tuple(path_of(each) for each in named.split(os.pathsep) if each)


def methods_setting(places: Iterable[Path]) -> str:
    """The value of ``MERGING_METHODS`` that names these places, wherever the process that reads it stands."""
    return os.pathsep.join(dict.fromkeys(str(place.resolve()) for place in places))


def dashboard() -> Path:
    """The script that streamlit runs: at the top of a checkout, in the package where it was installed."""
    top = checkout()
    return top / "app.py" if top is not None else _PACKAGE / "_app" / "app.py"
