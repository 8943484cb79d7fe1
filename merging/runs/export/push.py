"""A finished run as a model repository of the Hugging Face hub."""

from dataclasses import dataclass

from merging.core.errors import HubError
from merging.core.files import scratch_folder
from merging.core.progress import Progress, no_progress
from merging.core.text import shortened
from merging.hub.transfer import fetch, look_up
from merging.hub.upload import Target, look_at, upload
from merging.runs.export.export import export_run
from merging.runs.export.recipe import read_recipe
from merging.runs.export.weights import require_done
from merging.runs.run import Run
from merging.runs.workspace import Workspace
from merging.weights.files.writing import PLAIN, Form

_RECIPE = "recipe.yaml"


@dataclass(frozen=True)
class Pushed:
    """What was uploaded.

    Attributes:
        hub: the repository.
        public: whether everybody may read it.
        commit: what was made there.
        files: paths in it.
        bytes: of these.
    """

    hub: str
    public: bool
    commit: str
    files: tuple[str, ...]
    bytes: int


def push_run(
    run: Run,
    workspace: Workspace,
    hub: str,
    public: bool = False,
    form: Form = PLAIN,
    on_progress: Progress = no_progress,
) -> Pushed:
    """Upload what :func:`~merging.runs.export.export.export_run` writes as one commit of a repository.

    The repository is made if it is not there. One that holds the same run is brought up to date; any other content is
    left alone.

    Args:
        run: a finished run.
        workspace: where its weights are.
        hub: the repository, ``owner/name``.
        public: whether everybody may read it.
        form: how the weights are written.
        on_progress: called as the work goes on.

    Raises:
        HubError: there is no token or network, or the repository holds something else.
        MergingError: as :func:`~merging.runs.export.export.export_run`.
    """
    require_done(run)
    target = look_at(hub, public)
    _require_no_other_content(target, run)
    on_progress(0, 1, "writing weights, recipe and card")
    with scratch_folder(workspace.home) as folder:
        files = {path.name: path for path in export_run(run, workspace, folder / "files", form)}
        size = sum(path.stat().st_size for path in files.values())
        commit = upload(target, files, f"{run.spec.label}, run {run.id}", on_progress)
    return Pushed(hub, public, commit, tuple(files), size)


def _require_no_other_content(target: Target, run: Run) -> None:
    """Insist on a repository that is empty or holds the same run."""
    if not target.files:
        return
    held = shortened(target.files, 5)
    if _RECIPE in target.files and target.commit is not None:
        file = fetch(look_up(target.hub, [_RECIPE], target.commit), lambda _: None, lambda: False)
        if (other := read_recipe(file).run) == run.id:
            return
        held = f"run {other}"
    raise HubError(
        f"{target.hub}: the repository is there and holds {held}; nothing was uploaded; choose another name, or "
        "delete it on the hub"
    )
