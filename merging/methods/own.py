"""Methods of one's own: files and installed packages whose edits and merges stand beside the built-in ones.

They come from the folders and files that ``MERGING_METHODS`` names (``--methods FILE`` adds to it, see
:func:`merging.core.places.method_places`) and from installed packages with an entry point in the group
``merging.methods``. To load them is to run them: no suite, recipe or page can name one.

What is loaded is what was hashed, and each file is taken whole or not at all: one that can't be imported, or that
breaks the contract of :mod:`merging.methods.contract`, is a :class:`Problem` and leaves the others as they are.
"""

import ast
import hashlib
import importlib
import itertools
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.abc import SourceLoader
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from traceback import extract_tb
from typing import Any

import torch

from merging.core.errors import MergingError, SpecError
from merging.core.gate import read_bytes
from merging.core.places import METHODS_VARIABLE, method_places
from merging.methods import registry
from merging.methods.params import AUTO
from merging.methods.planned import LocalisedMerge, TensorEdit, TensorMerge
from merging.methods.promised import as_promised, with_function
from merging.methods.registry import OwnSource, Published, Stage
from merging.weights.vectors import TaskVectors

ENTRY_POINTS = "merging.methods"
_MOST_BYTES = 2**20
_MODULE = "merging_method_of_"  # what the modules of files are called, followed by their hash
_LONGEST, _SHORT = 400, 120  # letters of a reason why nothing is loaded, and of what went wrong in a run
_EXPECTED = "expected a function with @edit(…) or @merge(…) of merging.methods.registry"


@dataclass(frozen=True)
class Problem:
    """A file or package whose methods are not there.

    Attributes:
        name: of it.
        reason: why: the last line of the traceback, or what was expected.
        path: of a file, resolved.
    """

    name: str
    reason: str
    path: Path | None = None

    def __str__(self) -> str:
        return f"the methods of {self.name} are not loaded: {self.reason}"


@dataclass(frozen=True)
class _File:
    """A file of methods as it was when it was read, and what it is called, with its folder if that takes it."""

    path: Path
    content: bytes
    name: str

    @property
    def source(self) -> OwnSource:
        return OwnSource(self.name, hashlib.sha256(self.content).hexdigest())

    def stages(self) -> list[Stage]:
        """What it registers, by running it.

        Raises:
            Exception: whatever it raises; also SystemExit.
        """
        name, before = f"{_MODULE}{self.source.sha256}", set(sys.modules)
        spec = spec_from_loader(name, _Held(str(self.path), self.content))
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[name] = module  # where dataclasses and pydantic look for the names in annotations
        with registry.listing() as listed:
            spec.loader.exec_module(module)
        self._require_alone(set(sys.modules) - before - {name})
        return listed

    def _require_alone(self, imported: set[str]) -> None:
        """Insist that nothing beside the file is part of it, which neither its hash nor a second look would notice."""
        for name in imported:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).resolve().is_relative_to(self.path.resolve().parent) and "site-packages" not in file:
                for each in imported:
                    del sys.modules[each]
                raise SpecError(
                    f"it imports {name} from its own folder, and a change there would go unnoticed; put all of it into "
                    f"one file, or make it a package with an entry point {ENTRY_POINTS}"
                )


class _Held(SourceLoader):
    """Runs bytes that were read before, whatever is on disk or in ``__pycache__`` by now."""

    def __init__(self, path: str, content: bytes) -> None:
        self._path, self._content = path, content

    def get_filename(self, fullname: str) -> str:
        """For tracebacks."""
        return self._path

    def get_data(self, path: str) -> bytes:
        """The bytes; of nothing else, so that no compiled file is found."""
        if path != self._path:
            raise OSError(path)
        return self._content


@dataclass(frozen=True)
class _Package:
    """An installed package as it is now; it is imported once in the life of a process."""

    entry: EntryPoint
    source: OwnSource

    def stages(self) -> list[Stage]:
        """What it registered when it was imported.

        Raises:
            Exception: whatever it raises; also SystemExit.
            SpecError: it has changed since it was imported.
        """
        if self.entry not in _IMPORTED:
            try:
                with registry.listing() as listed:
                    self.entry.load()
                _IMPORTED[self.entry] = self.source, listed
            except (Exception, SystemExit) as error:
                _IMPORTED[self.entry] = self.source, error
        source, found = _IMPORTED[self.entry]
        if source != self.source:
            raise SpecError("it has changed since this process imported it; start the process again")
        if isinstance(found, BaseException):
            raise found
        return found


_IMPORTED: dict[EntryPoint, tuple[OwnSource, list[Stage] | BaseException]] = {}
_LOCK = threading.RLock()
_seen: tuple[object, ...] | None = None
_problems: tuple[Problem, ...] = ()


def refresh() -> None:
    """Look at all places again, and load everything anew if anything is other than it was.

    Called where work begins: by a page before it is drawn, by a worker before a run, by functions that notebooks call.
    A run that has begun keeps what was loaded.
    """
    global _seen, _problems
    with _LOCK:
        found, problems = _look()
        seen = (*((type(one), one.source) for one in found), *problems)
        if seen == _seen:
            return
        _load_built_in()
        for name in [name for name in sys.modules if name.startswith(_MODULE)]:
            del sys.modules[name]
        stages: list[Stage] = []
        for one in found:
            try:
                stages += _fitting(one, stages)
            except (Exception, SystemExit) as error:
                path = one.path if isinstance(one, _File) else None
                problems.append(Problem(one.source.name, _last_line(error, one), path))
        registry.set_own(stages)
        _seen, _problems = seen, tuple(problems)


def problems() -> tuple[Problem, ...]:
    """What could not be loaded when somebody last looked; nothing is looked for."""
    return _problems


def aside() -> str:
    """The same for the end of a sentence that misses something; empty if there is nothing to say."""
    return "".join(f"; {problem}" for problem in _problems)


def require_loaded(places: Collection[Path]) -> None:
    """Look at all places again, and insist that these files, and those of these folders, were loaded.

    Raises:
        SpecError: one was not; in its place a built-in method of the same name would be taken. Or a folder holds none.
    """
    refresh()
    files = {path.resolve() for place in places for path in _candidates(place)}
    failed = [str(problem) for problem in _problems if problem.path in files]
    if failed:
        raise SpecError("; ".join(failed))
    for place in places:
        if not any(_of_place(place)):
            raise SpecError(f"--methods {place.name}: no Python file in this folder registers a method; {_EXPECTED}")


def stamp() -> str:
    """What all methods of one's own are at present: changes when one does."""
    return ",".join(stage.source.sha256 for stage in registry.stages() if stage.source)


def sources(stages: Sequence[Stage]) -> dict[str, str]:
    """Kind and name → hash of its source, of the stages that are somebody's own."""
    return {f"{stage.kind} {stage.name}": stage.source.sha256 for stage in stages if stage.source}


def _load_built_in() -> None:
    """Have all that is built in registered first, and the table of published methods that judges what is added."""
    with registry.trying(()):
        importlib.import_module("merging.methods.presets")
        registry.stages()


def _look() -> tuple[list[_File | _Package], list[Problem]]:
    """All that may bring methods, packages first, and what can't be read."""
    found: list[_File | _Package] = [_Package(entry, _source_of(entry)) for entry in _entries()]
    problems: list[Problem] = []
    for one in itertools.chain.from_iterable(map(_of_place, method_places())):
        if isinstance(one, Problem):
            problems.append(one)
        else:
            found.append(one)
    return _told_apart(list(dict.fromkeys(found))), problems


def _of_place(place: Path) -> Iterator[_File | Problem]:
    """What of a file or folder may bring methods, and what can't be read."""
    if not place.exists():
        yield Problem(place.name, f"{METHODS_VARIABLE} or --methods names it, and it is not there")
        return
    for path in _candidates(place):
        try:
            file = _File(path.resolve(), read_bytes(path, SpecError, _MOST_BYTES), path.name)
        except MergingError as error:
            yield Problem(path.name, str(error), path.resolve())
            continue
        if path == place or _may_register(file.content):  # other scripts in a folder are none of ours to run
            yield file


@lru_cache(maxsize=256)
def _may_register(content: bytes) -> bool:
    """Whether Python code imports the registry or its package, or names it where it can't be parsed, which is said."""
    try:
        nodes = [*ast.walk(ast.parse(content))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return registry.__name__.encode() in content
    imported: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            before = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            imported |= {f"{before}{alias.name}" for alias in node.names}
    here = registry.__name__
    return any(name == registry.__package__ or f"{name}.".startswith(f"{here}.") for name in imported)


def _told_apart(found: Sequence[_File | _Package]) -> list[_File | _Package]:
    """Files of one name called by their folders, too."""
    names = Counter(one.source.name for one in found)
    return [
        replace(one, name=f"{one.path.parent.name}/{one.name}")
        if isinstance(one, _File) and names[one.name] > 1
        else one
        for one in found
    ]


def _candidates(place: Path) -> Iterator[Path]:
    """A file, or those of a folder that are no tests and not kept private by their names."""
    if not place.is_dir():
        yield place
        return
    for path in sorted(place.glob("*.py")):
        if not path.name.startswith(("_", "test_", "conftest")):
            yield path


@cache
def _entries() -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (entry.name, entry.value)))


def _source_of(entry: EntryPoint) -> OwnSource:
    """The content of all Python files of the package in which an entry point lies."""
    package = entry.module.partition(".")[0]
    digest = hashlib.sha256()
    spec = find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    single = [Path(spec.origin)] if spec and spec.origin and not folders else []
    for path in [*single, *(path for folder in folders for path in sorted(folder.rglob("*.py")))]:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return OwnSource(f"package {package}", digest.hexdigest())


def _fitting(one: _File | _Package, before: Sequence[Stage]) -> list[Stage]:
    """The stages of a file or package, each with its source, if they go with all others."""
    with registry.trying(before):
        listed = one.stages()
        if not listed:
            raise SpecError(f"registers no method; {_EXPECTED}")
        new = [
            replace(stage, source=one.source, published=stage.published or (_usual(stage),), plan=_telling(stage, one))
            for stage in listed
        ]
    with registry.trying((*before, *new)):
        registry.require_fitting()
    return new


def _telling(stage: Stage, one: _File | _Package) -> Callable[..., Any]:
    """The function of a stage, and what it plans.

    Where they raise what nobody meant, the error names file and line; where they give what no method may, the file.
    """

    def told(what: str) -> SpecError:
        return SpecError(f"{one.source.name}, {what} (in {stage.kind} {stage.name}; see merging check-method)")

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            try:
                return function(*args)
            except (MergingError, MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                raise told(_last_line(error, one, _SHORT)) from error

        return call

    def planned(vectors: TaskVectors, params: Any, context: Any) -> Any:
        found = guarded(stage.plan)(vectors, params, context)
        if isinstance(found, TensorEdit | TensorMerge | LocalisedMerge):
            found = with_function(found, guarded(found.apply))
        return as_promised(stage.kind, found, vectors, told)

    return planned


def _usual(stage: Stage) -> Published:
    """The published method that a stage brings if it names none: itself, λ chosen on validation."""
    if stage.kind == "edit":
        from merging.methods.pair import DEFAULTS  # which knows of this module

        after = registry.find("merge", DEFAULTS["merge"])
        return Published(stage.name, f"{stage.title} + {after.title}", f"edit={stage.name} merge.scaling={AUTO}")
    name = stage.params.scaling_name()
    return Published(
        stage.name, stage.title, f"merge={stage.name}" + (f" merge.{name}={AUTO}" if name is not None else "")
    )


def _last_line(error: BaseException, one: _File | _Package, most: int = _LONGEST) -> str:
    """The last line of a traceback, of so many letters at most, with the line of the file that it came from."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    if isinstance(one, _Package):
        return _cut(text, most)
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(one.path)]
    if isinstance(error, SyntaxError) and error.filename == str(one.path):
        lines = [error.lineno]
    text = _cut(text.replace(f"{one.path.parent}/", ""), most)
    return f"line {lines[-1]}, {text}" if lines else text


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 2]} …"
