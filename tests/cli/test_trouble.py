"""The command line when the system refuses or somebody loses patience: one line in words, nothing half-written."""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner, Result

from merging.cli import main
from merging.core.errors import RunError
from merging.runs.table import RunStore
from tests.copied import Copied, command_alone
from tests.dashboard import free_port
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def said(result: Result) -> str:
    """What a failed command printed, which is no traceback; checks its status too."""
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.stderr
    return result.stderr + result.stdout


def refusing(code: int) -> Callable[..., NoReturn]:
    def refuse(*arguments: Any, **keywords: Any) -> NoReturn:
        raise OSError(code, os.strerror(code), str(arguments[0]) if arguments else None)

    return refuse


@pytest.mark.parametrize(
    "command",
    [
        ("merge", "{suite}", "--output", "{out}/merged.safetensors"),
        ("merge", "{suite}", "--edit", "ties", "--output", "{out}/merged.safetensors"),
        ("merge", "{suite}", "--edit", "ties"),
        ("similarity", "{suite}"),
        ("leaderboard", "{suite}", "--presets", "average", "--output", "{out}/table.md"),
        ("init-suite", "{suite}", "--force"),
        ("convert", "{suite}/digits.safetensors", "--output", "{out}"),
    ],
)
def test_a_full_disk_is_named_and_nothing_is_left(
    command: tuple[str, ...], own_suite: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    before = (own_suite / "suite.yaml").read_text()
    monkeypatch.setattr("merging.core.files.os.replace", refusing(errno.ENOSPC))
    monkeypatch.setenv("MERGING_HOME", str(home))
    message = said(call(*(part.format(suite=own_suite, out=out) for part in command)))
    assert "can't be written (No space left on device); nothing was changed; make room or choose another" in message
    left = [path for folder in (out, own_suite, home) for path in folder.rglob("*.tmp")]
    assert not left and not list(out.glob("*")) and (own_suite / "suite.yaml").read_text() == before


def test_a_disk_that_is_full_on_export(suite_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call("merge", suite_file, "--home", home)
    (run,) = RunStore(home).all()
    monkeypatch.setattr("merging.core.files.os.replace", refusing(errno.ENOSPC))
    message = said(call("runs", "export", run.id, home / "export", "--home", home))
    assert "No space left on device" in message and not list((home / "export").glob("*"))


def test_weights_that_can_be_kept_nowhere(suite_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system knows no hard links, and there is no room for a copy."""
    monkeypatch.setattr(Path, "hardlink_to", refusing(errno.EPERM))
    monkeypatch.setattr("shutil.copyfile", refusing(errno.ENOSPC))
    message = said(call("merge", suite_file, "--edit", "ties", "--output", home / "out.safetensors", "--home", home))
    assert "model.safetensors: can't be written (No space left on device)" in message
    assert [run.state for run in RunStore(home).all()] == ["failed"]


def test_a_database_that_refuses_later_is_an_error_in_words(
    suite_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(home)
    with store.connect() as connection:
        connection.execute("drop table fingerprints")
    monkeypatch.setattr("merging.runs.database._SCHEMA", "")
    assert "runs.sqlite: lacks what was in it (no such table" in said(call("merge", suite_file, "--home", home))


@pytest.mark.parametrize("file", ["base.safetensors", "roads.safetensors"])
def test_a_file_that_may_not_be_read_is_named(
    file: str, own_suite: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def forbidding(path: Path, *arguments: Any, **keywords: Any) -> Any:
        if path.name == file:
            refusing(errno.EACCES)(path)
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", forbidding)
    for command in (("merge",), ("similarity",), ("evaluate", "--individual"), ("leaderboard",), ("check",)):
        message = said(call(command[0], own_suite, *command[1:], "--home", home))
        assert f"{file}: can't be read (Permission denied); check its permissions" in message


def test_anything_else_that_the_system_refuses_is_one_line(
    suite_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merging.runs.workspace.file_fingerprint", refusing(errno.EIO))
    result = call("similarity", suite_file, "--home", home)
    assert said(result) == "Error: base.safetensors: Input/output error\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["merge", "{folder}"], "no suite.yaml in folder 'empty'; `init-suite` writes one"),
        (["check", "{folder}/weights.safetensors"], "no suite 'weights.safetensors'"),
        (["check", "{suite}/base.safetensors"], "base.safetensors: no description of a suite; expected a suite.yaml"),
        (["merge", "{suite}", "--tasks", "digts"], "no task 'digts' (did you mean 'digits'?); it has circles"),
        (["merge", "{suite}", "--set", "merge.scalin=1"], "merge.scalin: unknown name (did you mean 'scaling'?)"),
        (["merge", "{suite}", "--preset", "tie"], "unknown preset 'tie' (did you mean 'ties'?)"),
        (["merge", "{suite}", "--set", "edit.alpha"], "--set 'edit.alpha': expected edit.NAME=VALUE"),
    ],
)
def test_mistyped_input_says_what_was_expected(
    arguments: list[str], message: str, suite_file: Path, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    filled = [argument.format(suite=suite_file.parent, folder=tmp_path / "empty") for argument in arguments]
    assert message in said(call(*filled, "--home", home))


def test_a_leaderboard_that_could_not_be_written_is_refused_before_any_run(
    suite_file: Path, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    command = ("leaderboard", suite_file, "--presets", "average", "--home", home)
    assert "table.md: can't be written" in said(call(*command, "--output", tmp_path / "file" / "table.md"))
    assert not RunStore(home).all()


@pytest.mark.parametrize("where", ["merging.runs.foreground.carry_out", "merging.methods.plan.ordered"])
def test_an_interrupted_merge_ends_with_130_and_one_line(
    where: str, suite_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: Any, **keywords: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    result = call("merge", suite_file, "--output", home / "out.safetensors", "--home", home)
    assert result.exit_code == 130
    assert result.stderr == "Interrupted; nothing is left half-written.\n" and result.stdout == ""
    assert [run.state for run in RunStore(home).all()] == ["cancelled"]
    assert not list(home.rglob("*.tmp")) and not (home / "out.safetensors").exists()


def test_control_c_in_a_real_process(suite_file: Path, home: Path) -> None:
    output = home / "out.safetensors"
    command = [
        sys.executable,
        "-m",
        "merging",
        "merge",
        suite_file,
        "--merge",
        "adamerging",
        "--set",
        "merge.steps=20000",
        "--output",
        output,
        "--home",
        home,
    ]
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells ignore it for what runs behind them
    )
    assert process.stderr is not None
    line = ""
    while "adapting" not in line and process.poll() is None:
        line = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    stdout, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and stdout == ""
    assert rest.splitlines()[-1] == "Interrupted; nothing is left half-written." and "Traceback" not in rest
    assert not list(home.rglob("*.tmp")) and not output.exists()
    assert [run.state for run in RunStore(home).all()] == ["cancelled"]


def test_output_that_is_cut_off_ends_quietly(tmp_path: Path) -> None:
    """Nobody reads any more: status 141, as of other programs, and not a word."""
    reading, writing = os.pipe()
    os.close(reading)

    def cut_off() -> None:
        sys.stdout = os.fdopen(writing, "w")
        command_alone("methods")()

    ended = Copied(cut_off, tmp_path / "said")
    os.close(writing)
    assert (ended.wait(), (tmp_path / "said").read_text()) == (141, "")


@pytest.mark.parametrize("option", ["--port", "--phones"])
def test_a_port_in_use_is_named(option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = {"--port": free_port(), option: port}
        message = said(
            call("app", "--headless", *(part for pair in options.items() for part in pair), "--home", "home")
        )
    assert message == (
        f"Error: port {port} can't be used (Address already in use); choose another with {option}, or end what uses "
        "it\n"
    )


def test_phones_need_a_port_of_their_own() -> None:
    port = free_port()
    message = said(call("app", "--headless", "--port", port, "--phones", port, "--home", "home"))
    assert message == f"Error: the dashboard itself has port {port}; choose another with --phones\n"


@pytest.mark.parametrize(
    "command", [("merge", "{suite}"), ("check", "{suite}", "--accuracy"), ("runs", "list"), ("app",)]
)
def test_a_home_that_can_not_be_written_is_named_once(
    command: tuple[str, ...], suite_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    message = said(call(*(part.format(suite=suite_file) for part in command), "--home", tmp_path / "file" / "home"))
    assert message.endswith(
        "Error: the folder for runs, 'home', can't be created ('file' is a file); name another folder with --home, or "
        "in MERGING_HOME\n"
    )
    assert message.count("can't be created") == 1


@pytest.mark.parametrize(
    ("home", "kind"),
    [
        ("file", "a file"),
        ("/dev/full", "a device"),
        ("pipe", "a pipe"),
        ("gone", "a link that leads nowhere"),
        ("loop", "a link that leads nowhere"),
    ],
)
def test_a_home_that_is_no_folder_is_said_to_be_what_it_is(home: str, kind: str, tmp_path: Path) -> None:
    """Before: "File exists" of a device, and of a file "Directory 'file' is a file"."""
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    for command in (("runs", "list"), ("app", "--headless"), ("merge", "mini")):
        message = said(call(*command, "--home", tmp_path / home))
        assert message.endswith(
            f"Error: the folder for runs, {Path(home).name!r}, can't be created (it is {kind}); name another folder "
            "with --home, or in MERGING_HOME\n"
        )


def test_a_full_disk_of_the_table_of_runs_is_named(suite_file: Path, home: Path) -> None:
    """For real: SQLite is told that the disk ends where its file does."""
    store = RunStore(home)
    with store.connect() as connection:
        connection.execute("vacuum")
        pages = connection.execute("pragma page_count").fetchone()[0]

    def fill() -> None:
        with store.connect() as connection:
            connection.execute(f"pragma max_page_count = {pages}")
            connection.execute("create table more as select randomblob(100000) as bytes")

    with pytest.raises(RunError, match=r"runs\.sqlite: can't be opened for writing \(database or disk is full\); make"):
        fill()


def test_what_steers_a_terminal_is_shown_by_its_escape(tmp_path: Path) -> None:
    message = said(call("check", tmp_path / "\x1b[31mred\x07"))
    assert "\\x1b[31mred\\x07" in message and "\x1b" not in message


def test_a_decimal_comma_is_asked_about(suite_file: Path, home: Path) -> None:
    message = said(call("merge", suite_file, "--set", "merge.scaling=0,3", "--home", home))
    assert "'0,3': numbers with decimal commas, or a list? write 0.3, or [0,3]" in message
