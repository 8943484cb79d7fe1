"""Images in the layout of the Hugging Face hub: parquet files with an image and a label column.

Reads a folder, or a data set that is in the hub's cache already (:mod:`merging.runs.jobs.download` gets it there). Of
the packages that can read these files ``pyarrow`` alone is used: ``datasets`` would convert everything to its own
format first.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np
import psutil

from merging.core.errors import MergingError, MissingPart, SuiteError
from merging.core.gate import DAMAGE, damage_in_words, parse_json, require_file_itself, require_regular
from merging.core.limits import MAX_CELLS_BYTES, MAX_GROWTH, MAX_IMAGE_BYTES, MAX_IMAGES, MAX_SMALL_BYTES
from merging.core.text import shortened
from merging.suites.images.decoding import AS_USUAL, Picture, Treatment, open_image
from merging.suites.images.source import Source

_SPLITS = {"train": ("train", "training"), "val": ("validation", "val", "valid", "dev"), "test": ("test",)}
_SHARD = re.compile(r"-(?P<number>\d+)-of-(?P<count>\d+)(-\w+)?$")
_ROWS = 64  # decoded at a time


def is_whole(folder: Path, config: str | None, test: str = "test") -> bool:
    """Whether all files are there of the test split, and of validation or training."""
    counts = {split: _missing_shards(_chosen(folder, _called(split, test), config)) for split in _SPLITS}
    return counts["test"] == 0 and 0 in (counts["val"], counts["train"])


def has_split(folder: Path, split: str, config: str | None) -> bool:
    """Whether all files of a split are there, by what it is called."""
    return _missing_shards(_chosen(folder, (split,), config)) == 0


def files_wanted(names: Sequence[str], config: str | None, test: str = "test") -> list[str]:
    """Of the files of a repository, those with the images of the splits that are used here."""
    paths = [PurePosixPath(name) for name in names if name.endswith(".parquet")]
    known = {name for split in _SPLITS for name in _called(split, test)}
    wanted = [path for path in paths if _split_name(path) in known]
    return [str(path) for path in wanted if config is None or config in path.parts[:-1]]


def hub_source(
    folder: Path,
    split: str,
    config: str | None,
    image: str,
    label: str,
    treatment: Treatment = AS_USUAL,
    test: str = "test",
) -> Source | None:
    """Images of one split.

    Args:
        folder: holds ``train-00000-of-00001.parquet`` and so on, itself or in folders below it.
        split: ``train``, ``val`` or ``test``.
        config: folder of the configuration, where there are several.
        image: column with the images' bytes.
        label: column with class indices; false and true are 0 and 1.
        treatment: how the image files are read.
        test: what the files call the test split.

    Returns:
        None if there is no such split.

    Raises:
        SuiteError: pyarrow is missing, several configurations are there and none is named, or files are damaged or
            have other columns.
    """
    files = _split_files(folder, _called(split, test), split, config)
    if not files:
        return None
    try:
        from pyarrow import parquet
    except ImportError:
        raise SuiteError("reading parquet files needs pyarrow: python -m pip install pyarrow") from None
    try:
        for file in files:
            require_regular(file, SuiteError)
            require_file_itself(file, SuiteError)
        tables = [parquet.ParquetFile(file) for file in files]
        _check_columns(files[0].name, tables[0].schema_arrow, image, label)
        _check_rows(files[0].name, tables, label)
        labels = np.concatenate([table.read(columns=[label])[label].to_numpy() for table in tables])
    except DAMAGE as error:
        raise SuiteError(
            f"{files[0].name}: not readable parquet files ({damage_in_words(error)}); download them again"
        ) from None
    if labels.dtype.kind not in "iub":
        raise SuiteError(f"{files[0].name}: column {label!r} is {labels.dtype}; expected class indices, integers")
    starts = [0, *accumulate(table.metadata.num_rows for table in tables)]

    def read(rows: Sequence[int], size: int) -> Iterator[Picture]:
        for file, table, start, end in zip(files, tables, starts, starts[1:], strict=False):
            wanted = {row - start for row in rows if start <= row < end}
            if wanted:
                yield from _images(file, table, image, wanted, size, treatment)

    status = [(str(file.relative_to(folder)), file.stat()) for file in files]
    listing = [f"{name} {found.st_size} {found.st_mtime_ns}" for name, found in status]
    stated = tuple(_stated(tables[0].schema_arrow.metadata, label))
    print_of_all = "\n".join([*listing, image, label])
    return Source(files[0].name, labels.astype(np.int64), print_of_all, read, classes=stated)


def class_names(folder: Path, label: str = "label") -> list[str]:
    """Names of the classes as the parquet files themselves state them; empty if they don't."""
    try:
        from pyarrow import parquet

        first = next(iter(sorted(folder.glob("**/*.parquet"))))
        require_regular(first, SuiteError)
        return _stated(parquet.read_schema(first).metadata, label)
    except (ImportError, StopIteration, MergingError, *DAMAGE):
        return []


def _stated(metadata: Any, label: str) -> list[str]:
    """Names of the classes in what `datasets` notes at the head of a parquet file; empty if it states none."""
    try:
        names = parse_json((metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (ValueError, LookupError, TypeError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _called(split: str, test: str) -> tuple[str, ...]:
    """What files may call a split; the one that serves as the test split serves as no other."""
    return (test,) if split == "test" else tuple(name for name in _SPLITS[split] if name != test)


def _named(folder: Path, names: Sequence[str]) -> list[Path]:
    """All parquet files of a split, sorted: the name of file or folder says which it is."""
    return [path for path in sorted(folder.glob("**/*.parquet")) if _split_name(path) in names]


def _split_name(path: PurePath) -> str:
    stem = _SHARD.sub("", path.stem)
    return (path.parent.name if stem.isdigit() else stem).lower()


def _split_files(folder: Path, names: Sequence[str], split: str, config: str | None) -> list[Path]:
    found = _chosen(folder, names, config)
    missing = _missing_shards(found)
    if missing:
        raise MissingPart(
            f"{folder.name}: {missing} of the files of the {split} split are missing, {len(found)} are there; "
            "download the rest: merging download SUITE --data"
        )
    if config is not None:
        return found
    places = sorted({path.parent.relative_to(folder).as_posix() for path in found})
    if len(places) > 1:
        raise SuiteError(
            f"{folder.name}: {split} split in {len(places)} folders ({shortened(places)}); name one as `config`"
        )
    return found


def _chosen(folder: Path, names: Sequence[str], config: str | None) -> list[Path]:
    """The files of a split, of one configuration if one is named."""
    found = _named(folder, names)
    return found if config is None else [path for path in found if config in path.relative_to(folder).parts[:-1]]


def _missing_shards(files: Sequence[Path]) -> int | None:
    """How many files a split lacks, as the names of the others say (``test-00000-of-00002``); None if it has none."""
    if not files:
        return None
    names = [match for path in files if (match := _SHARD.search(path.stem))]
    return max((int(match["count"]) for match in names), default=len(names)) - len({match["number"] for match in names})


def _check_columns(file: str, schema: Any, image: str, label: str) -> None:
    missing = [name for name in (image, label) if name not in schema.names]
    if missing:
        raise SuiteError(
            f"{file}: no column {', '.join(map(repr, missing))}; it has {shortened(schema.names)}; "
            "name them as `image` and `label`"
        )


def _check_rows(file: str, tables: Sequence[Any], label: str) -> None:
    """Insist on a bearable number of rows, of which a few bytes can stand for billions, and on a class for each."""
    rows = sum(table.metadata.num_rows for table in tables)
    if rows > MAX_IMAGES:
        raise SuiteError(f"{file}: {rows} rows; at most {MAX_IMAGES} images of a split are read")
    kind = str(tables[0].schema_arrow.field(label).type)
    if not kind.startswith(("int", "uint", "bool")):
        raise SuiteError(f"{file}: column {label!r} is {kind[:60]}; expected class indices, integers")


def _rows_at_once(table: Any, column: str) -> int:
    """How many pictures are decoded into memory together: of none is known how large it is, only of all in a group."""
    metadata = table.metadata
    largest = 1
    for group in range(metadata.num_row_groups):
        columns = (metadata.row_group(group).column(place) for place in range(metadata.num_columns))
        named = [one for one in columns if one.path_in_schema.split(".")[0] == column]
        unpacked = sum(one.total_uncompressed_size for one in named)
        packed = sum(one.total_compressed_size for one in named)
        if unpacked > max(MAX_SMALL_BYTES, MAX_GROWTH * packed):
            raise SuiteError(
                f"a group of rows unpacks to {unpacked} bytes from {packed}, more than {MAX_GROWTH} times as many; no "
                "pictures do that"
            )
        largest = max(largest, unpacked)
    if largest > MAX_CELLS_BYTES and largest > psutil.virtual_memory().available // 2:
        raise SuiteError(f"a group of rows unpacks to {largest} bytes, over half of the free memory")
    return max(1, min(_ROWS, MAX_CELLS_BYTES // largest))


def _images(
    file: Path, table: Any, column: str, wanted: set[int], size: int, treatment: Treatment
) -> Iterator[Picture]:
    """The wanted rows of one file, in order."""
    try:
        batches = table.iter_batches(batch_size=_rows_at_once(table, column), columns=[column])
        cells = (cell for batch in batches for cell in batch.column(0))
        for row, cell in enumerate(cells):
            if row in wanted:
                yield open_image(_bytes(cell.as_py(), file, row), f"{file.name}, row {row}", size, treatment)
    except DAMAGE as error:
        raise SuiteError(
            f"{file.name}: not a readable parquet file ({damage_in_words(error)}); download it again"
        ) from None


def _bytes(value: Any, file: Path, row: int) -> bytes:
    """The image file in a cell: bytes, or a record with ``bytes`` as `datasets` writes it."""
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise SuiteError(f"{file.name}, row {row}: no bytes of an image; expected them in the file, not as a path")
    if len(content) > MAX_IMAGE_BYTES:
        raise SuiteError(f"{file.name}, row {row}: {len(content)} bytes; an image of at most {MAX_IMAGE_BYTES} is read")
    return content
