"""Data sets in the Hugging Face hub's cache: where they are, and what to do about one that is not there."""

from pathlib import Path

from merging.core.errors import MissingPart
from merging.hub.cache import cache_folder, in_cache, snapshot


def cached_dataset(dataset: str, revision: str = "main") -> Path | None:
    """Folder of a data set in the hub's cache (``HF_HOME`` moves it); None if it is not there."""
    folder = snapshot(dataset, "dataset", revision)
    return folder if folder.is_dir() else None


def missing_dataset(dataset: str, revision: str = "main") -> MissingPart:
    """The error for a data set that is not in the cache: what to get and where it is to be."""
    of = "" if revision == "main" else f" --revision {revision}"
    return MissingPart(
        f"data set {dataset} is not in the Hugging Face cache (folder {cache_folder().name!r}, moved by HF_HOME); get "
        f"it with: merging download SUITE --data, or: hf download {dataset} --repo-type dataset{of}; or "
        f"copy its parquet files to {in_cache(snapshot(dataset, 'dataset', revision))}/data there"
    )
