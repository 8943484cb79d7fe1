"""The group that all commands belong to, and how any of them ends that could not do its work."""

import errno
from pathlib import Path
from typing import Any

import click
from click.exceptions import Exit

from merging.cli.options import (
    CUT_OFF,
    INTERRUPTED,
    end_with,
    image_limit_option,
    methods_option,
    problems_on_stderr,
)
from merging.core.errors import MergingError
from merging.core.version import __version__


class _Commands(click.Group):
    """Turns every error raised on purpose, and what the system refuses, into one paragraph and exit status 1.

    Ctrl-C ends with one line and the status that shells give for it.
    """

    def make_context(self, *arguments: Any, **names: Any) -> click.Context:
        """As click does it; this is where help is printed."""
        try:
            return super().make_context(*arguments, **names)
        except BrokenPipeError:
            raise Exit(CUT_OFF) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it; of a word that is a command of a group it says which."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            groups = [name for name, one in self.commands.items() if args[0] in getattr(one, "commands", ())]
            if not groups:
                raise
            meant = " or ".join(repr(f"merging {group} {args[0]}") for group in groups)
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean {meant}?", ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        said = ""
        try:
            return super().invoke(ctx)
        except MergingError as error:
            said = str(error)
            end_with("\n".join([f"Error: {error}", *(f"  {line}" for line in error.lines)]))
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read the output has enough
                raise Exit(CUT_OFF) from None
            file = f"{Path(str(error.filename)).name}: " if error.filename else ""
            end_with(f"Error: {file}{error.strerror or error}")
        except KeyboardInterrupt:
            end_with("Interrupted; nothing is left half-written.", INTERRUPTED)
        finally:
            problems_on_stderr(said)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="merging", message="%(prog)s %(version)s")
@image_limit_option
@methods_option
def main(image_limit: int | None) -> None:
    """Merge CLIP vision models by arithmetic on task vectors."""
