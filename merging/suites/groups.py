"""Groups of a suite's tasks: those that its ``suite.yaml`` names, such as the first eight, and all of a kind.

Wherever tasks are named, ``group:14`` stands for those of a group and ``kind:characters`` for all of a kind.
"""

from collections.abc import Mapping, Sequence

from merging.core.errors import SuiteError
from merging.core.wording import nearest

GROUP, KIND = "group:", "kind:"
Groups = Mapping[str, tuple[str, ...]]


def groups_from(stated: Mapping[str, int | tuple[str, ...]], tasks: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Group → its tasks in the suite's order, of what is stated: so many first tasks, or their names.

    Raises:
        ValueError: a group names no task, one that there is not, or more than there are.
    """
    found = {}
    for name, members in stated.items():
        if isinstance(members, int):
            if not 1 <= members <= len(tasks):
                raise ValueError(f"group {name!r} is the first {members} tasks; expected 1 to {len(tasks)}")
            found[name] = tuple(tasks[:members])
            continue
        strange = [member for member in members if member not in tasks]
        if strange or not members:
            lacks = f"task {strange[0]!r}{nearest(strange[0], tasks)}" if strange else "no task at all"
            raise ValueError(f"group {name!r} names {lacks}; the suite has {', '.join(tasks)}")
        found[name] = tuple(task for task in tasks if task in members)
    return found


def expanded(names: Sequence[str], tasks: Sequence[str], groups: Groups, kinds: Groups) -> tuple[str, ...]:
    """Names with those of groups and kinds in place of what stands for them, which name each task once.

    A task that is called like a group is meant itself.

    Raises:
        SuiteError: there is no such group or kind.
    """
    found: list[str] = []
    grouped: set[str] = set()
    for name in names:
        if name in tasks or not name.startswith((GROUP, KIND)):
            found += [] if name in grouped else [name]
            continue
        members = _members(name, GROUP, groups) if name.startswith(GROUP) else _members(name, KIND, kinds)
        found += [member for member in members if member not in found]
        grouped |= {*members}
    return tuple(found)


def _members(name: str, prefix: str, known: Groups) -> tuple[str, ...]:
    wanted, what = name.removeprefix(prefix).strip(), prefix.removesuffix(":")
    if wanted not in known:
        there = f"there are {', '.join(known)}" if known else f"it names no {what}"
        raise SuiteError(f"the suite has no {what} {wanted[:60]!r} of tasks{nearest(wanted, known)}; {there}")
    return known[wanted]
