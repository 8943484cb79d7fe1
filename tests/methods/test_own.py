"""Methods of one's own: which files are loaded, what is wrong with others, and what follows from their content."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from merging.charts import theme
from merging.core.errors import SpecError
from merging.methods import own, registry
from merging.methods.catalogue import catalogue
from merging.methods.context import Context
from merging.methods.pair import Pair
from merging.methods.plan import plan
from merging.methods.planned import LinearEdit, TensorEdit
from merging.methods.presets import PRESETS
from merging.methods.promised import as_promised
from merging.methods.spec import Spec
from merging.methods.template import write_template
from merging.runs.jobs import MergeSpec
from merging.runs.leaderboard import spec_of
from merging.weights.vectors import TaskVectors
from tests.own_methods import HEAD, method, write
from ui.merge.command import merge_command

METHOD_BODY = "return TensorMerge(lambda name, base, stack: base + 1.0 * params.much * stack.sum(dim=0))"


def test_a_file_brings_a_method_that_is_published_by_itself(own_methods: Path) -> None:
    write(own_methods, "mine.py", method())
    stage = registry.find("merge", "mine")
    assert stage.source is not None and stage.source.name == "mine.py" and len(stage.source.sha256) == 64
    assert list(PRESETS)[-1] == "mine" and PRESETS["mine"].title == "Mine"
    assert (spec_of(PRESETS["mine"], "mini", ["digits"], "cpu").label, Pair.of("ties", merge="mine").label) == (
        "Mine",
        "TIES + Mine",
    )
    found = catalogue()
    marked = [row["name"] for rows in found.values() for row in rows if "source" in row]
    assert marked == ["mine", "mine"]
    (own_methods / "mine.py").unlink()
    own.refresh()
    assert "mine" not in registry.merges() and "mine" not in PRESETS


def test_lambda_of_ones_own_is_chosen_on_validation_in_its_published_form(own_methods: Path) -> None:
    write_template("merge", "agreeing", own_methods)
    write_template("edit", "levelled", own_methods)
    own.refresh()
    assert own.problems() == ()
    assert PRESETS["agreeing"].pair.text == "merge=agreeing merge.scaling=auto"
    assert PRESETS["levelled"].pair.text == "edit=levelled merge=task_arithmetic merge.scaling=auto"
    assert PRESETS["levelled"].title == PRESETS["levelled"].pair.title == "Levelled + Task Arithmetic"
    assert Pair.of("levelled").linear


WRONG = {
    "syntax": ("def mine(:\n", "line 13, SyntaxError: invalid syntax"),
    "import": (
        "import nothing_of_that_name\n",
        "line 13, ModuleNotFoundError: No module named 'nothing_of_",
    ),
    "exit": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "nothing": ("", "SpecError: registers no method; expected a function with @edit"),
    "after": (method() + "1 / 0\n", "ZeroDivisionError: division by zero"),
    "contract": (method().replace("Add the sum.", "Add the sum"), "docstring must begin with one line that is a"),
    "twice": (method() + method(title="Other"), "ValueError: merge 'mine' is registered twice"),
    "built in": (method("ties") + method("tsv_m"), "there is a built-in merge 'tsv_m'; choose another name"),
    "title": (method(title="TSV-M"), "merge 'tsv_m' has the title 'TSV-M' already"),
    "preset": (method("doge_ta"), "published method 'doge_ta': its name or title is that of 'DOGE TA'"),
    "settings": (
        method(more=', published=(Published("mine", "Mine", "merge=iso_c merge.scaling=2"),)'),
        "its settings are those of 'Iso-C', whatever λ is",
    ),
    "look": (
        method(more=', published=(Published("mine", "Mine", "merge=mine", look=Look("#cc7f00", "square")),)'),
        "looks like Task Arithmetic; take another look",
    ),
    "other file": (method("good", "Good"), "merge 'good' is registered twice: a_good_one.py has it, too; rename one"),
}


@pytest.mark.parametrize(("text", "reason"), WRONG.values(), ids=WRONG)
def test_a_file_that_is_wrong_says_so_and_leaves_the_rest_working(own_methods: Path, text: str, reason: str) -> None:
    before = [*PRESETS, "good"]
    (own_methods / "bad.py").write_text(HEAD + text, encoding="utf-8")
    write(own_methods, "a_good_one.py", method("good", "Good"))
    (problem,) = own.problems()
    assert problem.name == "bad.py" and str(own_methods) not in problem.reason
    assert reason in problem.reason, problem.reason
    assert list(PRESETS) == before and [stage.name for stage in registry.stages() if stage.source] == ["good"]
    with pytest.raises(SpecError, match=r"'mine'[^:]*; the methods of bad\.py are not loaded: .*; there are: "):
        Pair.of(merge="mine")


def test_two_files_with_one_methods_name_are_both_named(own_methods: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = own_methods.parent / "others"
    other.mkdir()
    monkeypatch.setenv("MERGING_METHODS", f"{own_methods}{os.pathsep}{other}")
    write(own_methods, "mine.py", method())
    write(other, "mine.py", method())
    (problem,) = own.problems()
    assert problem.name == "others/mine.py"
    assert f"merge 'mine' is registered twice: {own_methods.name}/mine.py has it, too" in problem.reason


def test_what_is_no_method_is_not_run(own_methods: Path) -> None:
    touching = f"open({str(own_methods / 'touched')!r}, 'w')\n"
    (own_methods / "script.py").write_text(touching)
    for name in ("test_mine.py", "_helper.py", "conftest.py"):
        (own_methods / name).write_text("import merging.methods\n" + touching)
    own.refresh()
    assert own.problems() == () and not (own_methods / "touched").exists()


def test_a_place_that_is_not_there_is_said(own_methods: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGING_METHODS", f"{own_methods}{os.pathsep}{own_methods / 'gone.py'}")
    own.refresh()
    assert [problem.name for problem in own.problems()] == ["gone.py"]


def test_a_file_stands_alone(own_methods: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it imports from its own folder would change without anybody noticing."""
    monkeypatch.syspath_prepend(own_methods)
    (own_methods / "helping.py").write_text("factor = 2\n")
    path = write(own_methods, "mine.py", "import helping\n", method())
    for _ in range(2):
        (problem,) = own.problems()
        assert "it imports helping from its own folder" in problem.reason
        path.write_text(path.read_text() + "\n")
        own.refresh()


def merged(vectors: TaskVectors) -> dict[str, torch.Tensor]:
    return dict(plan(vectors, Pair.of(merge="mine"), Context()).tensors())


def test_an_edited_file_is_run_as_it_is_now_and_makes_another_identity(
    own_methods: Path, make_vectors: Callable[..., TaskVectors]
) -> None:
    """With the same length and in the same moment, so that no time and no size tells them apart."""
    vectors = make_vectors(tasks=2)
    found, identities = [], []
    for factor in (1.0, 2.0, 1.0):
        path = write(own_methods, "mine.py", method(factor=factor))
        os.utime(path, (1_000_000_000, 1_000_000_000))
        found.append(merged(vectors)["ln_post.bias"] - vectors.base["ln_post.bias"])
        identities.append(Spec.build(suite="any", tasks=("a",), merge="mine").identity(["file"]))
    torch.testing.assert_close(found[1], 2 * found[0])
    assert torch.equal(found[0], found[2])
    assert identities[0] == identities[2] != identities[1]


@pytest.mark.parametrize(
    "body", ["1 / 0\n    return TensorMerge(None)", "return TensorMerge(lambda name, base, stack: 1 / 0)"]
)
def test_one_that_breaks_while_it_works_says_where(
    own_methods: Path, make_vectors: Callable[..., TaskVectors], body: str
) -> None:
    write(own_methods, "mine.py", method().replace(METHOD_BODY, body))
    with pytest.raises(
        SpecError, match=r"^mine\.py, line 17, ZeroDivisionError: division by zero \(in merge mine; see merging check-"
    ) as caught:
        merged(make_vectors(tasks=2))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)  # of which the worker keeps the traceback


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", "it returns None; expected one of LinearMerge, TensorMerge, LocalisedMerge"),
        ("return lambda name, base, stack: base", "it returns a function; expected one of LinearMerge"),
        ("return TensorMerge(lambda name, base, stack: None)", "it gives None; expected a torch.Tensor"),
        ("return TensorMerge(lambda name, base, stack: base.numpy())", "it gives a ndarray; expected a torch.Tensor"),
        ("return TensorMerge(lambda name, base, stack: base.mean())", r"it gives \[\]; expected \["),
        (
            "return TensorMerge(lambda name, base, stack: base.mT if base.ndim == 2 else base)",
            r"gives \[.*; expected \[",
        ),
        ("return TensorMerge(lambda name, base, stack: stack)", r"it gives \[2, .*\]; expected \["),
        ("return TensorMerge(lambda name, base, stack: base / 0)", "it gives numbers that are not finite"),
        ("return LinearMerge({name: np.ones(3) for name in vectors.names})", r"are \[3\]; expected \[2\], one a task"),
        ("return LinearMerge({})", "its coefficients lack tensor"),
        ("return LinearMerge({'no': np.ones(2)})", "name tensor 'no', which the models don't have"),
        ("return LinearMerge({name: np.full(2, np.nan) for name in vectors.names})", "are not all numbers"),
        ("return LocalisedMerge(lambda name, base, stack: base)", "it gives a Tensor; expected a vector and masks"),
        (
            "return LocalisedMerge(lambda name, base, stack: (base, stack))",
            "masks of torch.float32; expected torch.bool",
        ),
    ],
)
def test_one_that_gives_what_no_method_may_is_told_by_its_file(
    own_methods: Path, make_vectors: Callable[..., TaskVectors], body: str, said: str
) -> None:
    imports = "import numpy as np\n    from merging.methods.planned import LinearMerge, LocalisedMerge\n    "
    write(own_methods, "mine.py", method().replace(METHOD_BODY, imports + body))
    with pytest.raises(SpecError, match=rf"^mine\.py, .*{said}.* \(in merge mine; see merging check-method\)$"):
        merged(make_vectors(tasks=2))


def test_an_edit_must_keep_all_tasks(make_vectors: Callable[..., TaskVectors]) -> None:
    vectors = make_vectors(tasks=2)
    too_few = LinearEdit({name: np.ones(2) for name in vectors.names})
    with pytest.raises(SpecError, match=r"are \[2\]; expected \[2, 2\], tasks × tasks"):
        as_promised("edit", too_few, vectors, SpecError)
    first = as_promised("edit", TensorEdit(lambda name, base, stack: stack[0]), vectors, SpecError)
    with pytest.raises(SpecError, match=r"it gives \[.*; expected \[2, "):
        vectors.edited(first).stack(vectors.names[0])


def test_the_command_of_a_run_names_the_file(own_methods: Path) -> None:
    write(own_methods, "my merge.py", method())
    spec = MergeSpec.build(suite="mini", tasks=("a",), merge="mine")
    assert merge_command(spec, ("a",), False).endswith("--methods 'path/to/my merge.py'")
    assert "--methods" not in merge_command(MergeSpec.build(suite="mini", tasks=("a",), merge="iso_c"), ("a",), False)


def test_built_in_methods_keep_identities_names_and_looks(own_methods: Path) -> None:
    specs = [Spec.build(suite="any", tasks=("a",), **one.spec_fields()) for one in PRESETS.values()]
    before = [(spec.identity(["file"]), spec.label, spec.method) for spec in specs]
    known = json.loads((Path(__file__).parents[1] / "charts/earlier_styles.json").read_text(encoding="utf-8"))
    labels = list(dict.fromkeys([*(one.title for one in PRESETS.values()), *known]))
    styles, together = [theme.style_of(label) for label in labels], theme.distinct_styles(labels)
    for number in range(6):
        write(own_methods, f"mine{number}.py", method(f"mine{number}", f"Mine {number}"))
    assert own.problems() == () and "mine5" in PRESETS
    again = [Spec.build(suite="any", tasks=("a",), **PRESETS[name].spec_fields()) for name in list(PRESETS)[:-6]]
    assert [(spec.identity(["file"]), spec.label, spec.method) for spec in again] == before
    assert [theme.style_of(label) for label in labels] == styles
    own_ones = [f"Mine {number}" for number in range(6)]
    assert theme.distinct_styles([*own_ones, *labels])[6:] == together
    drawn = {(style.color, style.symbol) for style in theme.distinct_styles(own_ones)}
    assert len(drawn) == 6


def test_an_installed_package_brings_methods_and_is_imported_once(
    own_methods: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    package, information = site / "someones_methods", site / "someones_methods-1.0.dist-info"
    package.mkdir(parents=True)
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: someones-methods\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[merging.methods]\nsomeones = someones_methods.all\n")
    (package / "__init__.py").write_text("")
    (package / "all.py").write_text(HEAD + method("theirs", "Theirs"))
    monkeypatch.syspath_prepend(site)
    own._entries.cache_clear()
    try:
        own.refresh()
        source = registry.find("merge", "theirs").source
        assert source is not None and source.name == "package someones_methods"
        write(own_methods, "mine.py", method())
        assert {"mine", "theirs"} <= set(registry.merges())
        (package / "__init__.py").write_text("# changed\n")
        own.refresh()
        (problem,) = own.problems()
        assert "it has changed since this process imported it" in problem.reason
        assert "theirs" not in registry.merges() and "mine" in registry.merges()
    finally:
        monkeypatch.undo()
        own._entries.cache_clear()
        own.refresh()
    assert "theirs" not in registry.merges()


@pytest.mark.parametrize(
    ("code", "can"),
    [
        ("from merging.methods.registry import merge", True),
        ("from merging.methods.registry import *", True),
        ("from merging.methods import registry", True),
        ("from merging import methods", True),
        ("import merging.methods", True),
        ("import merging.methods.registry as table", True),
        ("from merging.methods.registry import merge\n1 +", True),
        ("from merging.methods.pair import Pair", False),
        ("from merging.methods import pair", False),
        ("import merging", False),
        ("import merging.methods.registry2", False),
        ("# merging.methods.registry", False),
        ("1 +", False),
    ],
)
def test_of_a_folder_only_what_may_register_a_method_is_run(code: str, can: bool, own_methods: Path) -> None:
    (own_methods / "one.py").write_text(f"{code}\n")
    own.refresh()
    assert [problem.name for problem in own.problems()] == ["one.py"] * can
