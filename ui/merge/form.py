"""The form of the page Merge: which edit, which merge, with which parameters, and where.

The form stands in the URL (``?edit=awd&edit.alpha=0.2&merge=adamerging``), so that a link presets it; what equals a
default is left out. It is also kept while other pages are looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import streamlit as st

from merging.core import devices
from merging.core.errors import SpecError
from merging.methods import registry
from merging.methods.grammar import read_settings, read_value, write_value
from merging.methods.pair import Part
from merging.methods.params import DataUse
from merging.methods.presets import PRESETS, Preset
from merging.methods.refusals import refusal
from merging.methods.registry import Stage
from merging.runs.jobs.merge import MergeSpec
from ui.look import marks
from ui.look.figure import escape_markdown
from ui.look.forms import Tasks, fill, stage_form, widget_values, widgets_of
from ui.shell.state import described
from ui.shell.url import warn

Kind = Literal["edit", "merge"]
VARIED = "varies"  # what the URL calls the run whose settings the form began with
_PUBLISHED = "form.published"  # key of the choice that fills all the others
_DRAFT = "merge-draft"  # session state: the form as query parameters, kept across pages
_DEFAULTS: dict[str, Any] = {
    "edit": "none",
    "merge": "task_arithmetic",
    "device": "auto",
    "seed": 0,
    "split": "test",
    "dtype": "float32",
}
_OPTIONS = ("device", "seed", "split", "dtype")
_NEEDS = {
    "none": ":green-badge[:material/database_off: needs no images]",
    "unlabeled": ":blue-badge[:material/image: looks at unlabeled images]",
    "labelled": ":orange-badge[:material/label: looks at labelled images]",
}


@dataclass(frozen=True)
class Draft:
    """What the form says."""

    names: dict[Kind, str]
    params: dict[Kind, dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)

    def spec(self, suite: str, tasks: tuple[str, ...]) -> MergeSpec:
        """The specification to submit, with the device resolved so that it names the same run as the command line.

        Raises:
            SpecError: something is out of bounds.
            DeviceError: this machine lacks the device.
        """
        options = {**self.options, "device": str(devices.resolve(self.options["device"]))}
        return MergeSpec.build(
            suite=suite,
            tasks=tasks,
            edit=self.names["edit"],
            edit_params=self.params["edit"],
            merge=self.names["merge"],
            merge_params=self.params["merge"],
            **options,
        )

    def query(self) -> dict[str, str]:
        """As query parameters, without what equals a default.

        Raises:
            SpecError: something is out of bounds.
        """
        query: dict[str, str] = {}
        kinds: tuple[Kind, ...] = ("edit", "merge")
        for kind in kinds:
            if self.names[kind] != _DEFAULTS[kind]:
                query[kind] = self.names[kind]
            changed = registry.find(kind, self.names[kind]).changed(self.params[kind])
            query |= {f"{kind}.{name}": write_value(value) for name, value in changed.items()}
        return query | {key: write_value(value) for key, value in self.options.items() if value != _DEFAULTS[key]}


PARAMETERS, PREFIXES = tuple(_DEFAULTS), ("edit.", "merge.")  # what the URL can hold


def concerns_form(key: str) -> bool:
    """Whether a query parameter belongs to the form."""
    return key in PARAMETERS or key.startswith(PREFIXES)


def restore(tasks: Tasks) -> None:
    """Fill the form from the URL if it changed, or from what it was when this page was last left."""
    linked = {key: value for key, value in st.query_params.items() if concerns_form(key)}
    draft = st.session_state.get(_DRAFT)
    if linked and linked != draft:
        source = linked
    elif draft and "form.edit" not in st.session_state:
        source = draft
    else:
        source = {}
    if source:
        try:
            preset(source, tasks)
        except SpecError as error:
            warn(f"The link's settings were not taken over: {error}")
        else:
            warn_of_device(source)
    for key, value in _DEFAULTS.items():
        st.session_state.setdefault(f"form.{key}", value)


def warn_of_device(query: Mapping[str, str]) -> None:
    """Say so if a link names a device that this machine lacks, as links to runs of other machines do."""
    device, there = query.get("device", _DEFAULTS["device"]), devices.available()
    if device not in there:
        warn(f"The link asks for device = {device}, which is none of {', '.join(there)}. auto is shown instead.")


def preset(query: Mapping[str, str], tasks: Tasks) -> None:
    """Make the form show query parameters, and defaults for the rest.

    Raises:
        SpecError: a method or parameter is unknown or out of bounds; then nothing is changed.
    """
    chosen: dict[str, Any] = {}
    kinds: tuple[Kind, ...] = ("edit", "merge")
    values = read_settings({key: value for key, value in query.items() if key.startswith(PREFIXES)})
    parts = [Part.of(kind, query.get(kind, _DEFAULTS[kind]), values[kind]) for kind in kinds]
    chosen |= {f"form.{part.stage.kind}": part.name for part in parts}
    options = {key: read_value(query[key]) if key in query else _DEFAULTS[key] for key in _OPTIONS}
    MergeSpec.build(suite="", tasks=("any",), **options)
    if options["device"] not in devices.available():
        options["device"] = _DEFAULTS["device"]
    for part in parts:
        fill(part.stage, _prefix(part.stage), part.values, tasks)
    st.session_state.update(chosen | {f"form.{key}": value for key, value in options.items()})


def remember(draft: Draft) -> None:
    """Write the form into the URL and keep it for when this page is opened again."""
    query = draft.query()
    for key in [key for key in st.query_params if concerns_form(key) and key not in query]:
        del st.query_params[key]
    for key, value in query.items():
        if st.query_params.get(key) != value:
            st.query_params[key] = value
    st.session_state[_DRAFT] = query


def draw(tasks: Tasks) -> Draft:
    """Draw the form; it shows what :func:`restore` put there."""
    _published(tasks)
    left, right = st.columns(2, gap="medium")
    with left.container(border=True, height="stretch"):
        edit = _stage("edit", "Edit the task vectors", registry.edits(), tasks)
    with right.container(border=True, height="stretch"):
        merge = _stage("merge", "Merge them", registry.merges(), tasks)
        _refused_after(*edit)
    with st.container(border=True):
        options = _machine()
    marks.remember(_PUBLISHED, (key for key in widgets_of("form") if key != _PUBLISHED))
    return Draft({"edit": edit[0], "merge": merge[0]}, {"edit": edit[1], "merge": merge[1]}, options)


def _published(tasks: Tasks) -> None:
    """A choice of published methods that fills both stages; it names the one that the form shows now."""
    key = _PUBLISHED
    st.session_state[key] = next((name for name, one in PRESETS.items() if _is_shown(one, tasks)), None)

    def apply() -> None:
        chosen = st.session_state[key]
        if chosen is not None and marks.is_chosen(key):
            one = PRESETS[chosen]
            options = {name: st.session_state[f"form.{name}"] for name in _OPTIONS}
            preset({**one.pair.settings, **{name: write_value(value) for name, value in options.items()}}, tasks)

    choice, about = st.columns([0.4, 0.6], vertical_alignment="bottom")
    name = choice.selectbox(
        "Published method",
        list(PRESETS),
        format_func=lambda name: PRESETS[name].title,
        key=key,
        on_change=apply,
        index=None,
        placeholder="Your own pair",
        help="Fills the form below with the pair and parameters of a paper",
    )
    if name is not None:
        one = PRESETS[name]
        about.markdown(f"{_origin(one)} &nbsp; {badges(one.data)} {one.note}")


def _origin(preset: Preset) -> str:
    """Where a method was published, or the file of one's own that it comes from, as Markdown."""
    paper = f"[{preset.paper.removeprefix('https://')}]({preset.paper})" if preset.paper else ""
    return paper or (f"Your own, from {escape_markdown(preset.source.name)}" if preset.source else "")


def badges(data: DataUse) -> str:
    """What a method needs by itself, and what of it is chosen on labelled images, as Markdown."""
    chosen = f" :orange-badge[:material/tune: {data.chosen_words} chosen on labelled images]" if data.chosen else ""
    return _NEEDS[data.needs] + chosen


def _is_shown(one: Preset, tasks: Tasks) -> bool:
    """Whether the widgets hold exactly this preset."""
    for part in one.pair.parts:
        if st.session_state[f"form.{part.stage.kind}"] != part.name:
            return False
        prefix = _prefix(part.stage)
        state, defaults = (widget_values(part.stage, prefix, given, tasks) for given in (part.values, {}))
        if any(st.session_state.get(key, defaults[key]) != value for key, value in state.items()):
            return False
    return True


def _refused_after(edit: str, values: Mapping[str, Any]) -> None:
    """Names the merges that make no sense after an edit; the reason comes when one is chosen."""
    try:
        refused = [stage.title for name, stage in registry.merges().items() if refusal(edit, values, name)]
    except SpecError:  # said in full where the whole form is checked
        return
    if refused:
        title = registry.find("edit", edit).title
        st.caption(f"Not after {title} as it is set: {', '.join(refused)}.")


def _prefix(stage: Stage) -> str:
    """Two stages may have parameters of the same name and other bounds, so each has its own widgets."""
    return f"form.{stage.kind}.{stage.name}"


def _stage(kind: Kind, heading: str, stages: Mapping[str, Stage], tasks: Tasks) -> tuple[str, dict[str, Any]]:
    key = f"form.{kind}"
    if st.session_state[key] not in stages:
        st.session_state[key] = _DEFAULTS[kind]
    name = st.selectbox(heading, list(stages), format_func=lambda name: stages[name].title, key=key)
    stage = stages[name]
    source = f" [Paper]({stage.paper})" if stage.paper else ""
    source += f" (your own, from {escape_markdown(stage.source.name)})" if stage.source else ""
    st.markdown(f"{stage.summary}{source}")
    looks_at = st.empty()
    values = stage_form(stage, _prefix(stage), tasks)
    try:
        looks_at.markdown(badges(stage.data(values)))
    except SpecError:  # said in full where the whole form is checked
        looks_at.markdown(_NEEDS[stage.needs])
    return name, values


def _machine() -> dict[str, Any]:
    device, split, seed, dtype = st.columns(4)
    return {
        "device": device.selectbox(
            "Device",
            devices.available(),
            key="form.device",
            format_func=_device_label,
            help="Where the merge and the evaluation run. auto takes the first GPU, else the CPU.",
        ),
        "split": split.segmented_control(
            "Measure accuracy on",
            ("test", "val"),
            key="form.split",
            required=True,
            width="stretch",
            format_func={"test": "Test", "val": "Validation"}.__getitem__,
            help="The images that accuracy is reported on. λ is always chosen on validation.",
        ),
        "seed": seed.number_input(
            "Seed", 0, 2**32 - 1, step=1, key="form.seed", help="Of everything random: batches, dropped entries."
        ),
        "dtype": dtype.selectbox(
            "Precision",
            ("float32", "bfloat16", "float16"),
            key="form.dtype",
            help="Of the forward passes. Merging itself is always float32.",
        ),
    }


def _device_label(name: str) -> str:
    info = described(name)
    return f"auto: {info.title}" if name == "auto" else f"{name}: {info.title}"
