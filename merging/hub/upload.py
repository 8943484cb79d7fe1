"""Uploading a folder as one commit of a model repository. Only when somebody asks: nothing else here writes to the hub.

The transfer is huggingface_hub's own. A repository that is made here is private unless said otherwise, and one that is
there keeps its visibility: weights meant for few never go into a public one unasked.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from merging.core.errors import HubError
from merging.hub.cache import is_hub_id
from merging.hub.transfer import hub_errors_explained, trouble

_OWN = {".gitattributes"}  # what the hub itself puts into a new repository
_MEGABYTE = 10**6


@dataclass(frozen=True)
class Target:
    """A model repository as it is before an upload.

    Attributes:
        hub: its id, ``owner/name``.
        public: whether everybody may read it, or will be able to once it is made.
        commit: its newest commit; None if there is no such repository yet.
        files: paths of what somebody put there.
    """

    hub: str
    public: bool
    commit: str | None = None
    files: tuple[str, ...] = ()


def look_at(hub: str, public: bool) -> Target:
    """Find out before any work whether an upload can be meant for a repository.

    Raises:
        HubError: there is no token or no network, or a repository is there whose visibility is another.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if not is_hub_id(hub):
        raise HubError(f"{hub!r} is no repository of the Hugging Face hub; expected OWNER/NAME")
    if get_token() is None:
        raise HubError(
            "no token of the Hugging Face hub; set HF_TOKEN to one that may write, or: hf auth login; nothing was "
            "uploaded"
        )
    with _uploading(hub):
        try:
            found = HfApi(endpoint=constants.ENDPOINT).model_info(hub)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return Target(hub, public)
    if bool(found.private) == public:
        now, meant = ("private", "leave out --public") if found.private else ("public", "add --public if that is meant")
        raise HubError(
            f"{hub}: the repository is there and is {now}; nothing was uploaded; {meant}, change it on the hub, or "
            "choose another name"
        )
    files = sorted(each.rfilename for each in found.siblings or () if each.rfilename not in _OWN)
    return Target(hub, public, found.sha, tuple(files))


def upload(
    target: Target, files: Mapping[str, Path], message: str, on_progress: Callable[[int, int, str], None]
) -> str:
    """Make one commit of files, whole or not at all; what else was in the repository goes.

    Args:
        target: from :func:`look_at`; it is made if it was not there.
        files: path in the repository → file.
        message: of the commit.
        on_progress: called with megabytes done and in all.

    Returns:
        The commit.

    Raises:
        HubError: the token may not write there, somebody else changed it meanwhile, or the transfer broke off.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants

    api = HfApi(endpoint=constants.ENDPOINT)
    sizes = {name: path.stat().st_size for name, path in files.items()}
    total, done = sum(sizes.values()), 0
    with _uploading(target.hub):
        if target.commit is None:
            api.create_repo(target.hub, private=not target.public)
        additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()]
        for number, addition in enumerate(additions, 1):
            said = f"uploading {addition.path_in_repo}, file {number} of {len(additions)}, megabytes"
            on_progress(done // _MEGABYTE, max(total // _MEGABYTE, 1), said)
            api.preupload_lfs_files(target.hub, [addition], num_threads=1)
            done += sizes[addition.path_in_repo]
        gone = [CommitOperationDelete(path_in_repo=name) for name in target.files if name not in files]
        made = api.create_commit(
            target.hub, [*additions, *gone], commit_message=message, parent_commit=target.commit, num_threads=1
        )
        on_progress(max(total // _MEGABYTE, 1), max(total // _MEGABYTE, 1), "uploaded")
    return str(made.oid)


@contextmanager
def _uploading(hub: str) -> Iterator[None]:
    """Turns what huggingface_hub raises into our own errors; a commit is made last, so that none is half there."""
    from huggingface_hub import errors

    with hub_errors_explained(hub, "model", "main"):
        try:
            yield
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
            raise HubError(
                f"{hub}: the token may not write there, or the repository is gone; no commit was made"
            ) from None
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            said = {
                401: "the hub does not know the token; set HF_TOKEN to one that may write, or: hf auth login",
                403: "the token may not write there; it needs the right to write, and you that to this owner's models",
                409: "somebody else makes or changes the repository at this moment; try again",
                412: "the repository changed since it was looked at; try again",
                413: "the hub finds the files too large",
            }.get(status)
            if said is None:
                raise
            raise HubError(f"{hub}: {said}; no commit was made") from None
        except ValueError as error:
            raise HubError(f"{hub}: the hub refused the files ({str(error)[:200]}); no commit was made") from None
        except RuntimeError as error:  # around whatever ended the transfer of a large file
            raise HubError(
                f"{hub}: the transfer of a file broke off ({trouble(error.__cause__ or error)}); no commit was made; "
                "try again"
            ) from None
