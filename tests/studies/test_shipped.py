"""The file of results that comes with a suite: what is in it already is not measured again."""

from pathlib import Path

from merging.methods.presets import PRESETS
from merging.runs.leaderboard import spec_of
from merging.runs.shipped import Shipped
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from studies.shipped import measure
from tests.app.conftest import build_suite
from tests.carrying import execute


def test_what_the_file_holds_is_kept_and_what_was_done_since_is_added(tmp_path: Path) -> None:
    reference = str(build_suite(tmp_path / "tiny"))
    suite = load_suite(reference)

    def done(name: str, home: Path) -> None:
        space, spec = Workspace(home), spec_of(PRESETS[name], reference, suite.task_names, "cpu")
        run = space.submit(spec)
        space.store.claim(run.id)
        space.store.finish(run.id, execute(spec, space))

    done("average", tmp_path / "one")
    file = measure(reference, suite, tmp_path / "one", only_done=True)
    first = file.read_bytes()
    assert measure(reference, suite, tmp_path / "two", only_done=True).read_bytes() == first
    done("awd_ta", tmp_path / "three")
    measure(reference, suite, tmp_path / "three", only_done=True)
    labels = [run.label for run in Shipped((file,)).merges()]
    assert labels == ["AWD + Task Arithmetic", "Weight averaging"]
    assert file.read_bytes() != first
    measure(reference, suite, tmp_path / "three", only_done=True, anew=True)
    assert [run.label for run in Shipped((file,)).merges()] == labels[:1]
