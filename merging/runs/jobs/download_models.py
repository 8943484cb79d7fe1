"""A job: getting single models of the Hugging Face hub that no suite names so far. Only when asked."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import ClassVar, Literal

from pydantic import Field

from merging.core.progress import Progress
from merging.hub.cache import HubFile, cache_folder
from merging.hub.transfer import Remote, look_up
from merging.runs.jobs.download import DownloadReport, configurations, downloaded_file, fetch_all, with_companions
from merging.runs.jobs.file_job import FileJob
from merging.runs.jobs.job import Site


class DownloadModelsJob(FileJob):
    """Repositories, ``owner/name``, whose weights are wanted, with what belongs to them and says something of them."""

    result: ClassVar[type[DownloadReport]] = DownloadReport
    without: ClassVar[str] = "Files that were finished are kept; asked again, it goes on where it stopped."
    anew: ClassVar[bool] = True
    job: Literal["download_models"] = "download_models"
    hubs: tuple[str, ...] = Field(min_length=1)

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return f"Download of {', '.join(self.hubs)}"

    def run(self, site: Site) -> DownloadReport:
        """Fetch what is missing, each file compared with its digest.

        Raises:
            HubError: something can't be downloaded.
            Cancelled: somebody asked for the work to stop.
        """
        wanted = list(_wanted([HubFile(hub=hub) for hub in self.hubs], self.step(site), site))
        fetch_all(wanted, site.on_progress, site.cancelled)
        for remote in wanted:
            if len(remote.digest) == 64:
                site.workspace.store.remember_fingerprint(cache_folder() / remote.path, remote.digest)
        files = [downloaded_file(remote) for remote in wanted]
        total = sum(file.bytes for file in files)
        return DownloadReport(suite=", ".join(self.hubs), files=files, bytes=total, label=self.label)


def _wanted(models: Sequence[HubFile], step: Progress, site: Site) -> Iterator[Remote]:
    for done, each in enumerate(models):
        step(done, len(models), f"asking the hub for {each}")
        found = look_up(each.hub, each.candidates, each.revision)
        yield from with_companions(found, site.cancelled)
        yield from configurations({(found.hub, found.commit): {PurePosixPath(found.file).parent}})
