"""What breaks the contract of a stage is refused when it is registered, with the reason."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from merging.core.errors import SpecError
from merging.methods import registry
from merging.methods.context import Context
from merging.methods.looks import SYMBOLS, Look
from merging.methods.params import OnValidation, Params
from merging.methods.planned import LinearMerge, LocalisedMerge, TensorEdit, TensorMerge
from merging.methods.presets import PRESETS
from merging.methods.registry import Published, edit, merge
from merging.methods.scaling import Scaling
from merging.weights.vectors import TaskVectors


class SoundParams(Params):
    """Nothing is wrong with these."""

    scaling: Scaling = Field(1.0, description="How far.")
    size: int = Field(1, ge=0, le=2, description="How large.")


@pytest.fixture(autouse=True)
def _own_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered here is gone afterwards."""
    registry.stages()
    monkeypatch.setattr(registry, "_EDITS", dict(registry._EDITS))
    monkeypatch.setattr(registry, "_MERGES", dict(registry._MERGES))


def planner(params: type[Params] = SoundParams, given: Any = TensorMerge, doc: str | None = "Do a thing.") -> Any:
    """A function as a file of a method holds it."""

    def thing(vectors: TaskVectors, params: Any, context: Context) -> Any:
        raise AssertionError

    thing.__doc__ = doc
    thing.__annotations__ |= {"params": params, "return": given}
    return thing


def with_field(annotation: Any, **field: Any) -> Callable[[], Any]:
    values = {"default": 1.0, "ge": 0, "le": 2, "description": "How much."} | field
    values = {name: value for name, value in values.items() if value is not None}
    body = {"__annotations__": {"much": annotation}, "much": Field(**values), "__doc__": "Some."}
    return lambda: planner(type("OddParams", (Params,), body))


def two_scalings() -> Any:
    class TwoParams(SoundParams):
        second: Scaling = Field(1.0, description="Another.")

    return planner(TwoParams)


def unfrozen() -> Any:
    class OpenParams(SoundParams, frozen=False):
        pass

    return planner(OpenParams)


def wrong_default() -> Any:
    class FarParams(Params):
        much: float = Field(3.0, ge=0, le=2, description="How much.")

    return planner(FarParams)


def other_arguments() -> Any:
    def thing(vectors: TaskVectors, params: SoundParams) -> TensorMerge:
        """Do a thing."""
        raise AssertionError

    return thing


def untyped() -> Any:
    def thing(vectors, params, context) -> TensorMerge:  # type: ignore[no-untyped-def]
        """Do a thing."""
        raise AssertionError

    return thing


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: planner(doc=None), r"docstring must begin with one line that is a sentence; got ''"),
    (lambda: planner(doc="no sentence"), "docstring must begin with one line that is a sentence; got 'no sentence'"),
    (lambda: planner(given=None), "return type must be one or several of LinearMerge, LocalisedMerge, TensorMerge"),
    (lambda: planner(given=TensorMerge | TensorEdit), "return type must be"),
    (lambda: planner(params=Params), "type of params must be a subclass of Params"),
    (lambda: planner(params=dict), "type of params must be a subclass of Params"),  # type: ignore[arg-type]
    (other_arguments, "arguments must be vectors, params, context; got vectors, params"),
    (untyped, "type of params must be a subclass of Params; got None"),
    (unfrozen, "OpenParams must stay frozen"),
    (wrong_default, "defaults are not valid"),
    (two_scalings, "only a merge has λ, and only one; marked are scaling, second"),
    (
        with_field(Annotated[float, OnValidation(scaling=True)]),
        "'much' is chosen on validation, so its type must allow 'auto'",
    ),
    (with_field(Annotated[float, Field(ge=0, le=1)] | Literal["auto"], ge=None, le=None), "mark it with OnValidation"),
    (with_field(Literal["auto", "fast"], default="auto", ge=None, le=None), "mark it with OnValidation"),
    (with_field(float, description=None), "'much' has no description"),
    (with_field(float, default=None), "'much' has no default"),
    (with_field(complex, default=0j, ge=None, le=None), "type that no form can show"),
    (with_field(str, default="", ge=None, le=None), "type that no form can show"),
    (with_field(float | None), "type that no form can show"),
    (with_field(float, le=None), "needs a smallest and a largest value"),
    (with_field(int, default=1, ge=None), "needs a smallest and a largest value"),
]


@pytest.mark.parametrize(("make", "reason"), WRONG, ids=[reason[:40] for _, reason in WRONG])
def test_what_breaks_the_contract_is_refused_with_the_reason(make: Callable[[], Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"merge 'thing' can't be registered: .*{reason}"):
        merge("thing", title="Thing")(make())
    assert "thing" not in registry.merges()


@pytest.mark.parametrize(("name", "title", "reason"), [("Thing", "T", "small letters"), ("thing", " ", "no title")])
def test_names_and_titles_are_needed(name: str, title: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        merge(name, title=title)(planner())


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'awd' is registered twice"):
        edit("awd", title="Another AWD")(planner(given=TensorEdit))


def test_a_title_is_one_stages() -> None:
    with pytest.raises(ValueError, match="merge 'tsv_m' has the title 'TSV-M' already"):
        merge("thing", title="TSV-M")(planner())
    assert "thing" not in registry.merges()


def test_the_data_needed_are_of_a_known_kind() -> None:
    with pytest.raises(ValueError, match="needs 'pictures'; expected one of none, unlabeled, labelled"):
        merge("thing", title="Thing", needs="pictures")(planner())  # type: ignore[arg-type]
    assert "thing" not in registry.merges()


def test_only_a_merge_has_a_scaling_coefficient() -> None:
    with pytest.raises(ValueError, match="only a merge has λ"):
        edit("thing", title="Thing")(planner(given=TensorEdit))


def test_a_preset_of_unknown_values_is_refused() -> None:
    with pytest.raises(SpecError, match=r"merge\.size = 7: must be at most 2"):
        merge("thing", title="Thing", presets={"Large": {"size": 7}})(planner())


@pytest.mark.parametrize(
    ("given", "linear", "localised"),
    [
        (LinearMerge, True, False),
        (TensorMerge, False, False),
        (LinearMerge | TensorMerge, None, False),
        (LocalisedMerge, False, True),
    ],
)
def test_what_a_merge_gives_is_read_from_its_return_type(given: Any, linear: bool | None, localised: bool) -> None:
    merge("thing", title="Thing")(planner(given=given))
    found = registry.find("merge", "thing")
    assert (found.linear, found.localised) == (linear, localised)


def test_whatever_is_marked_is_lambda_and_nothing_goes_by_its_name() -> None:
    class NamedParams(Params):
        """λ has another name, and ``scaling`` is something else."""

        strength: Scaling = Field(0.5, description="λ.")
        scaling: float = Field(0.1, ge=0, le=1, description="No λ.")
        cut: Annotated[Annotated[float, Field(gt=0, le=1)] | Literal["auto"], OnValidation()] = Field(
            "auto", description="Chosen, but no λ."
        )

    merge("thing", title="Thing")(planner(NamedParams))
    from merging.methods.pair import Pair

    pair = Pair.of(merge="thing", merge_params={"strength": 0.7, "scaling": 0.2})
    assert pair.scaling == 0.7
    assert pair.label == "Thing · scaling 0.2"
    assert pair.with_scaling("auto").data.chosen == ("merge.strength", "merge.cut")
    assert pair.with_scaling("auto").data.chosen_words == "λ, cut"
    assert pair.with_scaling("auto").label == pair.label
    with pytest.raises(SpecError, match="merge 'average' has no λ"):
        Pair.of(merge="average").with_scaling("auto")


@pytest.mark.parametrize(
    ("published", "reason"),
    [
        (Published("ties", "Thing", "merge=thing"), "its name or title is that of 'TIES'"),
        (Published("thing", "TIES", "merge=thing"), "its name or title is that of 'TIES'"),
        (Published("thing", "Thing", "merge=thing", look=Look("#0a9a72", "star")), "looks like TIES"),
        (Published("Thing!", "Thing", "merge=thing"), "a name is made of small letters"),
        (Published("thing", "Thing\n", "merge=thing"), "its title must be one line of text"),
        (Published("thing", "", "merge=thing"), "its title must be one line of text"),
        (Published("thing", "Thing", "edit=ties merge.scaling=0.7"), "its settings are those of 'TIES', whatever λ is"),
        (Published("thing", "Thing", "merge=thing merge.size=9"), "must be at most 2"),
        (Published("thing", "Thing", "merge=thing size"), "expected NAME=VALUE"),
        (Published("thing", "Thing", "merge=thing"), "it has no paper; give the address of one, or ours=True"),
    ],
)
def test_a_published_method_without_paper_or_taken_for_another_is_refused(published: Published, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        merge("thing", title="Thing", published=(published,))(planner())
    assert "thing" not in registry.merges()


def test_published_methods_of_a_stage_come_after_those_of_the_table() -> None:
    before = list(PRESETS)
    merge("thing", title="Thing", paper="https://x", published=(Published("thing", "The Thing", "merge=thing"),))(
        planner()
    )
    assert list(PRESETS) == [*before, "thing"]
    assert (PRESETS["thing"].paper, PRESETS["thing"].pair.label) == ("https://x", "The Thing")


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (("red", "star"), "expected #rrggbb"),
        (("#ffff00", "star"), "contrast to #ffffff and #11151c must be at least 3; got 1.1"),
        (("#101010", "star"), "contrast to #ffffff and #11151c must be at least 3; got 1.0"),
        (("#0a9a72", "blob"), "expected one of circle, square"),
        (("#0a9a72", "star", "#"), "expected one of"),
    ],
)
def test_a_look_that_can_not_be_seen_is_refused(look: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Look(*look)
    assert len(set(SYMBOLS)) == len(SYMBOLS)
