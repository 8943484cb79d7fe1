"""The base of a suite that is known here, taken in for models of one's own: adapters come without theirs."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from merging.core.errors import SuiteError
from merging.core.files import atomic_path
from merging.core.gate import read_json
from merging.suites.declared import OPEN_CLIP
from merging.suites.incoming.arrival import Received
from merging.suites.incoming.staging import Staging
from merging.suites.initialise import NO_ANSWERS, Answers
from merging.suites.suite import Suite

_SAID = "adopted.json"


def adopt(staging: Staging, suite: Suite, settings: Mapping[str, Any]) -> None:
    """Take in the base of a suite by links, with what is known of it; it replaces an earlier one.

    Args:
        staging: where the models wait.
        suite: whose base and text tower are here.
        settings: what an ``open_clip_config.json`` says of such a model.

    Raises:
        SuiteError: a file is not here, or can't be linked to.
    """
    base, text = suite.path(suite.base), suite.text_tower and suite.path(suite.text_tower)
    if not base.is_file() or (text and not text.is_file()):
        raise SuiteError(f"the base of {suite.label}, or its text tower, is not here; download it first")
    folder = f"base-of-{re.sub(r'[^A-Za-z0-9_-]+', '-', suite.name)}"
    said = {"folder": folder, "base": f"base{base.suffix}"}
    links = {base: said["base"], **({text: f"text_tower{text.suffix}"} if text and text != base else {})}
    with staging.arriving(Received()) as batch:
        (batch / folder).mkdir()
        (batch / folder / OPEN_CLIP).write_text(json.dumps(settings), encoding="utf-8")
        try:
            for file, name in links.items():
                os.symlink(file.resolve(), batch / folder / name)
        except OSError as error:
            raise SuiteError(f"links can't be made here ({error.strerror}); hand in the base itself") from None
        drop(staging)
        with atomic_path(staging.place / _SAID) as temporary:
            asked = {"image_size": suite.image_size, "logit_scale": suite.logit_scale, "label": suite.label}
            temporary.write_text(json.dumps({**said, **asked}), encoding="utf-8")


def drop(staging: Staging) -> None:
    """Throw a base away that was taken in so; nothing if none was."""
    said = _said(staging)
    if said:
        shutil.rmtree(staging.files / str(said["folder"]), ignore_errors=True)
        (staging.place / _SAID).unlink(missing_ok=True)


def base_of(staging: Staging) -> Path | None:
    """The base that was taken in so, below the files; None if none was."""
    said = _said(staging)
    return Path(str(said["folder"])) / str(said["base"]) if said else None


def label_of(staging: Staging) -> str:
    """What the suite of that base is called; empty if none was taken in so."""
    return str(_said(staging).get("label", ""))


def answers_of(staging: Staging) -> Answers:
    """What the suite of that base says of it and its file does not."""
    said = _said(staging)
    return Answers(image_size=said["image_size"], logit_scale=said["logit_scale"]) if said else NO_ANSWERS


def _said(staging: Staging) -> dict[str, Any]:
    try:
        said = read_json(staging.place / _SAID, SuiteError)
    except SuiteError:
        return {}
    there = isinstance(said, dict) and (staging.files / str(said["folder"]) / str(said["base"])).exists()
    return said if there else {}
