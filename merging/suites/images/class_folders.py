"""Which folder of images is which class: as ``suite.yaml`` says, by name, or by number; never by order of names alone.

The class lists that other files state (parquet) are compared with that of ``suite.yaml`` by the same spelling.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merging.core.errors import SuiteError
from merging.core.text import SHOWN, in_a_row, natural, shortened, side_by_side
from merging.core.wording import nearest

FolderClasses = Mapping[str, str | int | None]  # folder → its class, by name or index; None: it is left out

_WORDNET = re.compile(r"n\d{8}")
_NUMBER = re.compile(r"(?<![0-9])[0-9]{1,300}(?![0-9])")  # as many digits as a folder's name can have


NUMERIC_ORDER = "numbers, taken in numeric order as the classes in the order of suite.yaml"


@dataclass(frozen=True)
class Matching:
    """Which folder is which class.

    Attributes:
        labels: folder → index of its class.
        how: how that was found, as a sentence's end.
        assumed: whether it was, as no file says it.
        dropped: folders that ``suite.yaml`` leaves out.
        strangers: folders that are no class, beside one for each class.
        absent: folders that ``suite.yaml`` calls a class and that are not there.
    """

    labels: dict[str, int]
    how: str
    assumed: bool = False
    dropped: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def normalised(name: str) -> str:
    """A name without what people and systems spell differently.

    That is its Unicode form (made NFC), case, blanks, ``_``, ``-``, ``/``, and with them words in CamelCase.

    >>> normalised("Polka-Dotted "), normalised("polkaDotted"), normalised("polka_dotted")
    ('polkadotted', 'polkadotted', 'polkadotted')
    """
    folded = unicodedata.normalize("NFC", name).casefold()
    return unicodedata.normalize("NFC", re.sub(r"[\s_/-]+", "", folded))


def match_folders(
    folders: Sequence[str], classes: Sequence[str], given: FolderClasses, task: str, place: str
) -> Matching:
    """Which class every folder holds.

    In this order: what ``given`` says; names that are those of the classes, exactly; names that are theirs but for
    spelling (:func:`normalised`), one to one; and where all folders are numbers, those in the order of the classes.

    Args:
        folders: names of those there are.
        classes: the task's, in the order of the labels; without any, folders are taken in the order of their names.
        given: from ``suite.yaml``; folders that it does not name go by their own names.
        task: whose they are, for errors.
        place: where the folders are, for errors.

    Raises:
        SuiteError: it can't be told, or a class has no folder; the message sets folders and classes side by side.
    """
    if not classes:
        return _in_order_of_names(folders, task, place)
    told = _told(folders, classes, given, task)
    rest = [folder for folder in folders if folder not in told]
    labels = {folder: label for folder, label in told.items() if label is not None}
    taken = set(labels.values())
    wanted = [label for label in range(len(classes)) if label not in taken]
    found = _by_name(rest, classes, wanted, task, place)
    if found is None and not told:
        found = _by_number(rest, classes, task, place)
    if found is None:
        why = _one_name_twice(classes, wanted)
        raise _unclear(rest, [classes[label] for label in wanted], task, place, len(folders), len(classes), why)
    strangers = tuple(folder for folder in rest if folder not in found.labels)
    _require_unlike(strangers, labels | found.labels, classes, task, place)
    how = found.how
    absent = _meant_in_vain(given, labels | found.labels, set(told), classes, task, place)
    if told:
        how = "as `folders` in suite.yaml says" + (f", the others {found.how}" if wanted else "")
    dropped = tuple(folder for folder, label in told.items() if label is None)
    return Matching(labels | found.labels, how, dropped=dropped, strangers=strangers, absent=absent)


def compare_names(file: str, stated: Sequence[str], classes: Sequence[str], task: str) -> str:
    """Set the class names that a file of images states beside those of ``suite.yaml``; labels are the file's.

    Returns:
        How they agree, as a sentence; empty if one of the two names none.

    Raises:
        SuiteError: there are more of the one than of the other, or a class stands at another place.
    """
    if not stated or not classes:
        return ""
    both = _beside((f"classes in {file}", stated), ("classes in suite.yaml", classes))
    if len(stated) != len(classes):
        raise SuiteError(
            f"{file}: {len(stated)} class names in the file, {len(classes)} in suite.yaml for task {task!r}; list in "
            "suite.yaml those of the file, in its order, which is that of the labels",
            lines=both,
        )
    theirs, ours = [normalised(name) for name in stated], [normalised(name) for name in classes]
    often = Counter(theirs) + Counter(ours)
    places = {name: index for index, name in enumerate(theirs)}
    moved = [index for index, name in enumerate(ours) if often[name] == 2 and places.get(name, index) != index]
    if moved:
        first = moved[0]
        raise SuiteError(
            f"{file}: task {task!r} has the class names of the file in another order: {classes[first]!r} is class "
            f"{places[ours[first]]} there and {first} in suite.yaml ({listed(stated)} against {listed(classes)}); "
            "write them in suite.yaml in the file's order, which is that of the labels",
            lines=both,
        )
    other = [index for index, name in enumerate(ours) if theirs[index] != name]
    if not other:
        return "classes named as in the file"
    pairs = in_a_row(f"{stated[index]!r} for {classes[index]!r}" for index in other[:2])
    return f"{len(other)} of {len(classes)} classes have another name in the file, such as {pairs}; taken by index"


def _told(folders: Sequence[str], classes: Sequence[str], given: FolderClasses, task: str) -> dict[str, int | None]:
    """Folder → label, for those that ``suite.yaml`` names; it may be typed in another Unicode form than the disk's."""
    known = {unicodedata.normalize("NFC", folder): wanted for folder, wanted in given.items()}
    told: dict[str, int | None] = {}
    for folder in folders:
        key = unicodedata.normalize("NFC", folder)
        if key in known:
            wanted = known[key]
            told[folder] = None if wanted is None else _label(wanted, classes, folder, task)
    return told


def _meant_in_vain(
    given: FolderClasses, labels: Mapping[str, int], told: set[str], classes: Sequence[str], task: str, place: str
) -> tuple[str, ...]:
    """The folders that ``suite.yaml`` calls a class and that are not there; null may name one of another split.

    Raises:
        SuiteError: one that is there was meant by it, most likely.
    """
    absent = []
    present = {unicodedata.normalize("NFC", folder) for folder in told}
    covered = {labels[folder] for folder in told if folder in labels}
    spelt = {normalised(folder): label for folder, label in labels.items()}
    for folder, wanted in given.items():
        if wanted is None or unicodedata.normalize("NFC", folder) in present:
            continue
        label = _label(wanted, classes, folder, task)
        if (told and label not in covered) or spelt.get(normalised(folder), label) != label:
            raise SuiteError(
                f"task {task!r}: folders: {folder}: there is no folder of that name in {place}"
                f"{nearest(folder, list(labels))}; write it as the folder is called"
            )
        absent.append(folder)
    return tuple(absent)


def _label(wanted: str | int, classes: Sequence[str], folder: str, task: str) -> int:
    where = f"task {task!r}: folders: {folder}: {wanted!r}"
    if isinstance(wanted, int):
        if not 0 <= wanted < len(classes):
            raise SuiteError(f"{where} is no class; expected an index from 0 to {len(classes) - 1}, or a name")
        if str(wanted) in classes and classes[wanted] != str(wanted):
            raise SuiteError(f"{where} can be a class's index or its name; quote the name: '{wanted}'")
        return wanted
    same = [label for label, name in enumerate(classes) if name == wanted]
    if len(same) > 1:
        raise SuiteError(f"{where} is the name of {len(same)} classes; give an index: {in_a_row(map(str, same))}")
    if not same:
        raise SuiteError(f"{where} is no class of the task{nearest(wanted, classes)}; classes: {listed(classes)}")
    return same[0]


def _by_name(
    folders: Sequence[str], classes: Sequence[str], wanted: Sequence[int], task: str, place: str
) -> Matching | None:
    """By the names of the classes in ``wanted``; None unless each has a folder of its own."""
    names = [classes[label] for label in wanted]
    if len(set(names)) < len(names):
        return None
    if set(names) <= set(folders):
        return Matching(dict(zip(names, wanted, strict=True)), "named exactly as the classes")
    spelt = defaultdict(list)
    for folder in folders:
        spelt[normalised(folder)].append(folder)
    keys = [normalised(name) for name in names]
    for key, name in zip(keys, names, strict=True):
        if len(spelt[key]) > 1:
            raise _alike(spelt[key], name, task, place)
    if len(set(keys)) < len(keys) or not all(spelt[key] for key in keys):
        return None
    return Matching(
        {spelt[key][0]: label for key, label in zip(keys, wanted, strict=True)}, "named as the classes but for spelling"
    )


def _one_name_twice(classes: Sequence[str], wanted: Sequence[int]) -> str:
    """Which of these classes no folder's name can tell apart, and where they stand; empty if there are none."""
    spelt = defaultdict(list)
    for label in wanted:
        spelt[normalised(classes[label])].append(label)
    for labels in spelt.values():
        if len(labels) > 1:
            names = [f"{classes[label][:60]!r} as class {label}" for label in labels[:8]]
            return f"suite.yaml lists {in_a_row(names)}, counted from 0, which no folder's name tells apart"
    return ""


def _require_unlike(
    others: Sequence[str], labels: Mapping[str, int], classes: Sequence[str], task: str, place: str
) -> None:
    """Insist that no further folder is named like a class, as each of these has one."""
    holders = {label: folder for folder, label in labels.items()}
    spelt = {normalised(name): label for label, name in enumerate(classes)}
    for folder in others:
        label = spelt.get(normalised(folder))
        if label is not None:
            raise _alike([holders[label], folder], classes[label], task, place)


def _by_number(folders: Sequence[str], classes: Sequence[str], task: str, place: str) -> Matching | None:
    """By numbers alone: those of the classes where all of these are numbers too, else by their order."""
    if len(folders) != len(classes) or not all(_NUMBER.fullmatch(folder) for folder in folders):
        return None
    by_number = {int(folder): folder for folder in folders}
    if len(by_number) < len(folders):
        return None
    order = sorted(by_number)
    inside = [_NUMBER.findall(name) for name in classes]
    if all(len(found) == 1 for found in inside):
        numbers = [int(found[0]) for found in inside]
        plain = all(_NUMBER.fullmatch(name.strip()) for name in classes)
        if plain and sorted(numbers) == order:
            return Matching({by_number[number]: label for label, number in enumerate(numbers)}, "by their numbers")
        if plain or (sorted(numbers) == order and numbers != order):
            raise _unclear(folders, classes, task, place, len(folders), len(classes), "their numbers disagree")
    labels = {by_number[number]: label for label, number in enumerate(order)}
    return Matching(labels, NUMERIC_ORDER)


def _in_order_of_names(folders: Sequence[str], task: str, place: str) -> Matching:
    """As torchvision's ImageFolder has them, if there is but one way to sort them."""
    order = sorted(folders)
    if order != sorted(folders, key=natural):
        raise SuiteError(
            f"task {task!r}: suite.yaml names no classes, and the {len(folders)} folders in {place} can be sorted as "
            f"text ({listed(order)}) or by number and without case ({listed(sorted(folders, key=natural))}); list "
            "`classes` for the task, in the order of the head's rows",
            lines=_beside(("as text", order), ("by number and without case", sorted(folders, key=natural))),
        )
    labels = {folder: label for label, folder in enumerate(order)}
    return Matching(labels, "assumed: in the order of their names, as suite.yaml names no classes", assumed=True)


def _alike(folders: Sequence[str], name: str, task: str, place: str) -> SuiteError:
    both = in_a_row(f"{folder!a}" if not folder.isascii() else repr(folder) for folder in sorted(folders))
    return SuiteError(
        f"task {task!r}: each of the folders {both} in {place} could be the class {name!r}; put their images into one, "
        "or write for the task in suite.yaml which is which, as folders: {folder: class}"
    )


def _unclear(
    folders: Sequence[str],
    classes: Sequence[str],
    task: str,
    place: str,
    all_folders: int,
    all_classes: int,
    why: str = "",
) -> SuiteError:
    """The error for folders and classes that are not one another's; of those given the ones without a partner show."""
    keys, names = {normalised(name) for name in classes}, {normalised(folder) for folder in folders}
    alone = sorted((folder for folder in folders if normalised(folder) not in keys), key=natural)
    lonely = [name for name in classes if normalised(name) not in names]
    if why or not (alone or lonely):
        alone, lonely = sorted(folders, key=natural), list(classes)
    if not why and any(_WORDNET.fullmatch(folder) for folder in alone):
        why = "WordNet ids are no names of classes"
    return SuiteError(
        f"task {task!r}: {all_folders} class folders in {place}, {all_classes} classes in suite.yaml, and nothing says "
        f"which is which{f' ({why})' if why else ''}; folders without a class: {listed(alone)}; classes without a "
        f"folder: {listed(lonely)}; write for the task in suite.yaml folders: {{folder: class}}, or rename the "
        "folders; a class without images needs an empty one",
        lines=_beside(("folders without a class", alone), ("classes without a folder", lonely)),
    )


def _beside(left: tuple[str, Sequence[str]], right: tuple[str, Sequence[str]]) -> list[str]:
    """Both lists in full, where the message shortens one of them."""
    if max(len(left[1]), len(right[1])) <= SHOWN:
        return []
    first, second = ((title, [repr(name[:60]) for name in names]) for title, names in (left, right))
    return side_by_side(first, second)


def listed(names: Sequence[str]) -> str:
    """The first names of a list, quoted.

    >>> listed([])
    'none'
    """
    return shortened([repr(name[:60]) for name in names]) or "none"
