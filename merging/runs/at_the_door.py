"""What a machine of a cluster runs before it is known to have this package.

Sent as code, not by its name, so neither the scheduler nor a worker has to import anything of ours to receive it; hence
it is written with the standard library and ``distributed`` alone, and the package is imported inside.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

PACKAGE, CARRY_OUT = "merging", "merging.runs.cluster:carry_out_on_worker"
_PAUSE = 1.0  # seconds, or a worker that is turned away would be asked again and again


class Sent:
    """A function of this module that arrives elsewhere as itself, whether or not this module is there."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__name__ = function.__name__

    def __call__(self, *given: Any) -> Any:
        """Call it here."""
        return self._function(*given)

    def __reduce__(self) -> tuple[Any, ...]:
        import cloudpickle

        module = sys.modules[__name__]
        cloudpickle.register_pickle_by_value(module)
        try:
            return cloudpickle.loads, (cloudpickle.dumps(self._function),)
        finally:
            cloudpickle.unregister_pickle_by_value(module)


def unfit(version: str) -> str:
    """Why this machine can't carry jobs out for a version of the package; empty if it can."""
    from pkgutil import resolve_name

    try:
        module = resolve_name(PACKAGE)
        if module.__file__ is None:  # nothing but a folder of that name
            raise ImportError
        found = module.__version__
    except ImportError:
        return f"lacks the package {PACKAGE}"
    except AttributeError:
        return f"has another {PACKAGE}, which tells no version"
    if found != version:
        return f"has version {found} of the package {PACKAGE}, expected {version}"
    try:
        resolve_name(CARRY_OUT)
    except ImportError as error:
        return f"can't load the package {PACKAGE}: {error}"
    return ""


def enter(version: str, *given: str) -> Any:
    """Carry a job out, see :mod:`merging.runs.cluster`; on a machine that can't, leave it to another."""
    from pkgutil import resolve_name

    from distributed import Reschedule

    if unfit(version):
        time.sleep(_PAUSE)
        raise Reschedule
    return resolve_name(CARRY_OUT)(*given)
