"""What the commands share: options, and reading what was typed."""

import csv
import functools
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from merging.core.errors import SpecError
from merging.core.places import (
    METHODS_VARIABLE,
    chosen_home,
    default_home,
    method_places,
    methods_setting,
    path_of,
    suite_places,
)
from merging.core.text import visible

if TYPE_CHECKING:
    from merging.runs.workspace import Workspace
    from merging.suites import Suite

INTERRUPTED = 130  # exit status of what Ctrl-C ended: 128 + SIGINT
_NAMED = "merging.methods named"  # key of what is remembered with a command
_SAY_THEMSELVES = ("app", "serve", "worker", "methods", "new-method")  # which of one's own methods are not there
CUT_OFF = 141  # of what nobody reads any more, as of other programs: 128 + SIGPIPE


class PathAsTyped(click.Path):
    """A path in which ``~`` is the home folder, also where no shell has read it: after ``=``, or in a variable."""

    def __init__(self, *, exists: bool = False, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(exists=exists, file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, checked as :class:`click.Path` does."""
        if not os.fspath(value):
            self.fail("expected a path, got an empty text; a variable may not be set", param, ctx)
        try:
            path = path_of(value)
        except SpecError as error:
            self.fail(str(error), param, ctx)
        if not self.file_okay and path.is_file():
            self.fail(f"{path.name!r} is a file; expected a folder", param, ctx)
        return super().convert(path, param, ctx)


class SuiteName(click.ParamType[str]):
    """A suite as :func:`merging.suites.load_suite` takes it, or by its short name in the dashboard.

    Such are the suites below the folders of ``MERGING_SUITES``, and those that were added in the dashboard. What
    stands for a suite without them does so with them.
    """

    name = "suite"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What ``load_suite`` takes; what is no such name is left to it."""
        from merging.suites.suite import suite_file

        if os.sep in value or suite_file(value).exists() or path_of(value).exists():
            return value
        return dashboards_suites().get(value, value)


def dashboards_suites() -> dict[str, str]:
    """Short name → path of the suites that the dashboard finds besides those built in and downloaded."""
    from merging.suites.discovery import suites_below
    from merging.suites.incoming.staging import SUITES
    from merging.suites.suite import builtin_suites

    return suites_below([*suite_places(), chosen_home() / SUITES], builtin_suites())


def suite_argument(function: Any) -> Any:
    """``SUITE``."""
    return click.argument("suite", type=SuiteName())(function)


def home_option(function: Any) -> Any:
    """``--home``: the workspace."""
    return click.option(
        "--home",
        type=PathAsTyped(),  # what is no folder is said where it is made
        default=default_home,
        envvar="MERGING_HOME",
        help="Folder for runs and caches (default: .merging in a checkout, else the user's data folder).",
    )(function)


def image_limit_option(function: Any) -> Any:
    """``--image-cache-gb``, in bytes as ``image_limit``; stands before the command, since it concerns all of them."""
    return click.option(
        "--image-cache-gb",
        "image_limit",
        type=click.FloatRange(min=0, max=2**20),
        envvar="MERGING_IMAGE_CACHE_GB",
        callback=lambda _, __, value: None if value is None else int(value * 2**30),
        help="Room for prepared images in GiB (default: 20); those that were not used for longest are removed first.",
    )(function)


def methods_option(function: Any) -> Any:
    """``--methods``: files of methods of one's own, for this command and the processes that it starts."""
    return click.option(
        "--methods",
        type=PathAsTyped(exists=True),
        multiple=True,
        is_eager=True,
        expose_value=False,
        callback=lambda context, _, places: add_methods(context, places),
        help="A Python file with methods of your own, or a folder of such; running them is running code. Those of "
        f"{METHODS_VARIABLE} are there anyway.",
    )(function)


def add_methods(context: click.Context, places: Sequence[Path]) -> None:
    """Let methods of one's own come from these places, too, until the command has ended.

    Raises:
        SpecError: one, or a file in it, can't be loaded: the command might go on to take a built-in method of its name.
    """
    before = os.environ.get(METHODS_VARIABLE, "")
    wanted = methods_setting([*method_places(), *places])
    if wanted != before:
        _set_places(wanted)  # absolute, as processes that are started may stand elsewhere
        context.find_root().call_on_close(lambda: _set_places(before))
    named = context.meta.setdefault(_NAMED, set())  # before the command as well as after it
    named.update(place.resolve() for place in places)
    if named and not isinstance(context.command, click.Group) and context.command.name not in _SAY_THEMSELVES:
        from merging.methods.own import require_loaded

        require_loaded(named)


def _set_places(wanted: str) -> None:
    os.environ[METHODS_VARIABLE] = wanted
    own = sys.modules.get("merging.methods.own")  # where commands are called one after the other in one process
    if own:
        own.refresh()


def problems_on_stderr(said: str = "") -> None:
    """Say which methods of one's own are not there, unless it was; nothing if no command has asked for any."""
    own = sys.modules.get("merging.methods.own")  # which takes a second to load
    for problem in own.problems() if own else ():
        if str(problem) not in said:
            click.echo(visible(f"warning: {problem}"), err=True)


def open_workspace(home: Path) -> Any:
    """The workspace in a folder, with the room for images that the command line allows."""
    from merging.runs.shipped import shipped_files
    from merging.runs.workspace import Workspace
    from merging.suites.images.cache import DEFAULT_LIMIT

    limit = click.get_current_context().find_root().params["image_limit"]
    return Workspace(home, DEFAULT_LIMIT if limit is None else limit, shipped_files())


def json_option(function: Any) -> Any:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(function)


def device_option(function: Any) -> Any:
    """``--device``."""
    return click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")(function)


def scheduler_option(function: Any) -> Any:
    """``--scheduler``."""
    return click.option(
        "--scheduler",
        help="A Dask scheduler whose workers do the runs, such as tcp://host:8786 (default: this machine).",
    )(function)


def read_device(device: str, scheduler: str | None) -> str:
    """Where to compute: the device with its number, of this machine or of a cluster's."""
    if scheduler:
        from merging.runs.cluster import device_there

        return device_there(device)
    from merging.core import devices

    return str(devices.resolve(device))


@contextmanager
def carrier_of(scheduler: str | None, workspace: "Workspace", device: str) -> Iterator[Any]:
    """Who carries runs out: a cluster, taken back from what is still under way in the end; None for this process."""
    if not scheduler:
        yield None
        return
    from merging.runs.cluster import Cluster

    with closing(Cluster(scheduler, workspace.store, device)) as cluster:
        yield cluster


class _Layout(click.Choice[str]):
    """Names of layouts; the one that earlier versions had for Hugging Face's is still understood."""

    def __init__(self) -> None:
        super().__init__(["open_clip", "hugging-face"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The layout as the package calls it."""
        return super().convert("hugging-face" if value == "huggingface" else value, param, ctx).replace("-", "")


class Bytes(click.ParamType[int]):
    """A number of bytes, such as ``2GB``, ``500MB`` or ``1GiB``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number of bytes."""
        found = re.fullmatch(r"(\d{1,15})\s*([KMGT]?)(i?)B?", str(value), re.IGNORECASE)
        size = 0
        if found:
            size = int(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " ")
        if not size:
            self.fail(f"{value!r} is no size; expected a number of bytes such as 500MB, 2GB or 1GiB", param, ctx)
        return size


def form_options(function: Any) -> Any:
    """``--layout``, ``--dtype`` and ``--shard-size``, given together as ``form``."""

    @functools.wraps(function)
    def with_form(*args: Any, layout: Any, dtype: Any, shard_size: int | None, **kwargs: Any) -> Any:
        from merging.weights.files.writing import Form

        return function(*args, form=Form(layout, dtype, shard_size), **kwargs)

    options = (
        click.option(
            "--layout",
            type=_Layout(),
            default="open_clip",
            show_default=True,
            help="Names and shapes of the weights written: open_clip's visual tower or transformers' CLIPVisionModel.",
        ),
        click.option(
            "--dtype",
            type=click.Choice(["as-base", "float32", "bfloat16", "float16"]),
            default="as-base",
            show_default=True,
            help="What the weights written are rounded to.",
        ),
        click.option(
            "--shard-size",
            type=Bytes(),
            help="Largest file of weights, such as 2GB; they go into several and an index.",
        ),
    )
    for option in reversed(options):
        with_form = option(with_form)
    return with_form


def take_option(function: Any) -> Any:
    """``--take``."""
    return click.option(
        "--take",
        metavar="NAME",
        help="Which of several towers in a file: whole parts, between dots, of what its tensors' names have in front "
        "and no other tower's have (ema, net.ema).",
    )(function)


def tasks_option(function: Any) -> Any:
    """``--tasks``, as :func:`read_tasks` reads them."""
    return click.option(
        "--tasks",
        help="Task names with commas; group:NAME and kind:NAME stand for those of a group, for all of a kind (default: "
        "the suite's usual group, or all with a checkpoint).",
    )(function)


def measured_options(function: Any) -> Any:
    """``--shift`` and ``--unseen``: what accuracy is measured on besides clean images of the merged tasks."""
    shift = click.option(
        "--shift",
        default="clean",
        show_default=True,
        metavar="CORRUPTION:SEVERITY",
        help="Corrupt all test images, such as gaussian_noise:3, or gaussian_noise:ready as a data set of the hub has "
        "them; adaptive methods learn from these, λ is chosen on "
        "clean validation images.",
    )
    unseen = click.option(
        "--unseen",
        metavar="TASKS",
        help="Further tasks to measure, of which nothing is merged: names with commas, or `rest` for all others.",
    )
    return shift(unseen(function))


def split_option(function: Any) -> Any:
    """``--split``."""
    return click.option("--split", type=click.Choice(["test", "val"]), default="test", show_default=True)(function)


def set_option(function: Any) -> Any:
    """``--set``, as :func:`read_settings` reads them."""
    return click.option(
        "--set", "settings", multiple=True, metavar="STAGE.NAME=VALUE", help="A parameter, such as edit.alpha=0.1."
    )(function)


def progress_on_stderr() -> Any:
    """A progress callback that rewrites one line of a terminal, or prints a line every few seconds elsewhere."""
    terminal = sys.stderr.isatty()
    shown_phase, shown_at = "", 0.0

    def report(done: int, total: int, message: str) -> None:
        nonlocal shown_phase, shown_at
        phase, now = message.split(" ", 1)[0], time.monotonic()
        if phase == shown_phase and done < total and now - shown_at < (0.1 if terminal else 5.0):
            return
        shown_phase, shown_at = phase, now
        line = f"{message} ({done}/{total})"
        click.echo(f"\r\x1b[K{line}" if terminal else line, err=True, nl=not terminal or done == total)

    return report


def end_with(sentence: str, status: int = 1) -> NoReturn:
    """Say why the command ends, on a line of its own even where progress was being written, and end it."""
    sentence = visible(sentence)
    click.echo(f"\r\x1b[K{sentence}" if sys.stderr.isatty() else sentence, err=True)
    click.get_current_context().exit(status)


def read_datasets(given: Sequence[str]) -> dict[str, str | None]:
    """``TASK=NAME`` … → task → name of a known data set, None for ``none``. Names of data sets hold no ``=``."""
    found = _names_of_tasks("--dataset", given, "scenes=SUN397, or TASK=none")
    return {task: None if name == "none" else name for task, name in found.items()}


def read_checkpoints(given: Sequence[str]) -> dict[str, str]:
    """``TASK=NAME`` … → task → name of its checkpoint. Names of tasks hold no ``=``; ``epoch=3-step=100.ckpt`` does."""
    return _names_of_tasks("--checkpoint", given, "sun397=checkpoint-500", str.partition)


def _names_of_tasks(
    option: str,
    given: Sequence[str],
    example: str,
    cut: Callable[[str, str], tuple[str, str, str]] = str.rpartition,
) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        task, equals, name = cut(each, "=")
        if not equals or not task.strip() or not name.strip():
            raise SpecError(f"{option} {each!r}: expected TASK=NAME, such as {example}")
        found[task.strip()] = name.strip()
    return found


def read_settings(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``edit.alpha=0.1`` … → parameters by stage, their values as :mod:`merging.methods.grammar` reads them."""
    from merging.methods import grammar

    texts: dict[str, str] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise SpecError(f"--set {setting!r}: expected edit.NAME=VALUE or merge.NAME=VALUE")
        texts[path] = text
    try:
        return grammar.read_settings(texts)
    except SpecError as error:
        raise SpecError(f"--set {error}") from None


def read_tasks(suite: "Suite", tasks: str | None) -> tuple[str, ...]:
    """Names after ``--tasks``, checked; without them the suite's usual tasks that name a checkpoint."""
    if tasks is None:  # a file that is named but missing is an error, not a task less
        return tuple(suite.chosen())
    return _named_tasks(suite, "--tasks", tasks)


def read_unseen(suite: "Suite", merged: Sequence[str], unseen: str | None) -> tuple[str, ...]:
    """Names after ``--unseen``, checked; ``rest`` stands for all tasks with images and a head that are not merged."""
    if unseen is None:
        return ()
    if unseen.strip() != "rest" or "rest" in suite.task_names:
        return _named_tasks(suite, "--unseen", unseen)
    rest = tuple(suite.rest(merged))
    if not rest:
        raise SpecError(
            f"--unseen rest: suite {suite.name!r} has no further task with images and a head; merge fewer with --tasks"
        )
    return rest


def read_names(option: str, text: str) -> tuple[str, ...]:
    """Names with commas between them, in quotes where they hold commas."""
    try:
        read = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as error:
        raise SpecError(f"{option} {text[:60]!r}: {error}; expected names with commas") from None
    return tuple(name.strip() for name in read if name.strip())


def _named_tasks(suite: "Suite", option: str, text: str) -> tuple[str, ...]:
    names = read_names(option, text)
    if not names:
        raise SpecError(f"{option} {text!r} names no task; the suite has {', '.join(suite.task_names)}")
    return tuple(suite.chosen(names))
