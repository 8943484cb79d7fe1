"""Adaptive Weight Disentanglement on screen: its controls, and solving, live or (where it must be) on the weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from merging.methods import registry
from merging.methods.context import Context
from merging.methods.edits.awd import ADAM_BETA, AwdParams, Disentangled, disentangle, from_geometry, is_live
from merging.methods.planned import LinearEdit
from merging.runs.jobs.disentangle import DisentangleJob, DisentangleResult
from merging.weights.geometry import Geometry
from ui.look import marks
from ui.runs.jobs import result_of
from ui.shell import state
from ui.shell.url import choice, number, said_below

_BETAS = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_CHOICES = {"scope": ("model", "layer", "row"), "solver": ("descent", "exact", "adam"), "tensors": ("all", "matrices")}
_ALPHAS, _STEPS = (0.0, 1.0), (0, 2000)  # smallest and largest
PARAMETERS = (*_CHOICES, "alpha", "beta", "steps")
_CHEAP = 4e9  # numbers touched by a solve on the weights that a page does unasked, a few seconds on two cores
STAGE = registry.find("edit", "awd")
_DEFAULTS = AwdParams()
_SOLVER_BEFORE = "_solver_before"  # session state: the solver of the last run of the page


@dataclass(frozen=True)
class _Preset:
    short: str
    help: str
    params: AwdParams


def _presets() -> list[_Preset]:
    found = []
    for title, values in STAGE.presets.items():
        short, _, rest = title.partition(": ")
        found.append(_Preset(short, rest, AwdParams.model_validate(values)))
    return found


def controls() -> AwdParams:
    """The widgets, each bound to the URL, and the way to a merge with them; gives validated parameters."""
    top = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom")
    choices = st.columns(3, gap="medium")
    sliders = st.columns(3, gap="medium")
    with said_below():
        values = _values(choices, sliders)
    params = STAGE.parse(values)
    assert isinstance(params, AwdParams)
    with top.container(horizontal=True, vertical_alignment="bottom", gap="small", width="content"):
        _preset_choice(params)
    top.page_link(
        "pages/merge.py",
        label="Merge with these settings",
        icon=":material/merge:",
        query_params={**state.shared_query(), **query(params)},
    )
    return params


def _values(choices: Sequence[DeltaGenerator], sliders: Sequence[DeltaGenerator]) -> dict[str, Any]:
    """What the widgets say, drawn into three columns each."""
    values: dict[str, Any] = {
        "units": "published",  # β is what the slider says
        "scope": _choice(choices[0], "Scope", "scope"),
        "solver": _choice(choices[1], "Solver", "solver", on_change=_move_beta),
        "alpha": number(
            sliders[0].slider,
            "α, weight of the norm",
            *_ALPHAS,
            _DEFAULTS.alpha,
            0.01,
            key="alpha",
            help=_help("alpha"),
        ),
        "beta": choice(
            sliders[1].select_slider,
            "β, step size",
            {beta: _beta_text(beta) for beta in _BETAS},
            value=_DEFAULTS.beta,
            key="beta",
            help=_help("beta"),
        ),
        "steps": number(sliders[2].slider, "Steps", *_STEPS, _DEFAULTS.steps, 10, key="steps", help=_help("steps")),
    }
    st.session_state[_SOLVER_BEFORE] = values["solver"]
    whole = values["scope"] == "model" and values["solver"] != "adam"
    if whole:
        choices[2].markdown(":small[Tensors]")
        choices[2].caption("all: one vector for the model")
        tensors = "all"
    else:
        tensors = _choice(choices[2], "Tensors", "tensors")
    return {**values, "tensors": tensors}


def _beta_text(value: float) -> str:
    return f"{value:g}"


def _choice(place: DeltaGenerator, label: str, key: str, on_change: Callable[[], None] | None = None) -> str:
    chosen: str = choice(
        place.segmented_control,
        label,
        _CHOICES[key],
        default=getattr(_DEFAULTS, key),
        required=True,
        key=key,
        help=_help(key),
        width="stretch",
        on_change=on_change,
    )
    return chosen


def _move_beta() -> None:
    """Callback: β means something else for Adam, so one that was left at the old solver's default moves to the new's.

    Links are not touched by this: they say which β they mean.
    """
    if st.session_state["beta"] == _usual_beta(st.session_state[_SOLVER_BEFORE]):
        st.session_state["beta"] = _usual_beta(st.session_state["solver"])


def _usual_beta(solver: str) -> float:
    return ADAM_BETA if solver == "adam" else _DEFAULTS.beta


def _help(field: str) -> str | None:
    return AwdParams.model_fields[field].description


def _preset_choice(params: AwdParams) -> None:
    """Readings of the paper; the one that equals the parameters is marked."""
    presets = _presets()
    st.session_state["preset"] = next((preset.short for preset in presets if preset.params == params), None)
    st.segmented_control(
        "Reading of the paper",
        [preset.short for preset in presets],
        key="preset",
        on_change=_apply_preset,
        help="No reference code was published, and two readings fit what is known. "
        + " ".join(f"**{preset.short}**: {preset.help}." for preset in presets),
    )
    marks.remember("preset", PARAMETERS)
    st.badge("unverified", icon=":material/help:", color="orange", help="Neither reading is confirmed by its authors")


def _apply_preset() -> None:
    chosen = st.session_state.get("preset")
    for preset in _presets():
        if preset.short == chosen and marks.is_chosen("preset"):
            st.session_state.update(preset.params.model_dump())


def query(params: AwdParams) -> dict[str, str]:
    """Query parameters that open the Merge page with these settings."""
    return {"edit": STAGE.name, **{f"edit.{name}": _text(value) for name, value in params.everything().items()}}


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def solve(geometry: Geometry, params: AwdParams) -> Disentangled | None:
    """What AWD finds for the selected tasks; None while a long solve waits for a button, or is under way."""
    key = (state.suite_reference(), state.stamp(), geometry.tasks, params.model_dump_json())
    if is_live(params):
        return _solved(*key)
    numbers = state.suite().vectors(geometry.tasks).size * len(geometry.tasks)
    if numbers * (params.steps if params.solver == "adam" else 1) <= _CHEAP:
        with st.spinner("Disentangling the weights …"):
            return _solved_on_weights(*key)
    job = DisentangleJob.build(
        suite=state.suite_reference(),
        tasks=geometry.tasks,
        edit="awd",
        edit_params=params.model_dump(mode="json"),
        device=str(state.device()),
        evaluate=False,
    )
    kind = "Adam walks" if params.solver == "adam" else "Scope row looks"
    found = result_of(
        job,
        DisentangleResult,
        key="awd-job",
        button="Solve on the weights",
        icon=":material/play_arrow:",
        reason=f"{kind} over all {numbers:,} weights of the selected tasks, so this is not live. "
        f"It needs about {numbers * 12 / 2**30:.1f} GiB of memory.",
    )
    return None if found is None else found.disentangled(geometry)


@st.cache_resource(max_entries=32, show_spinner=False)
def _solved(reference: str, version: state.Stamp, tasks: tuple[str, ...], params_json: str) -> Disentangled:
    """Milliseconds, but the page opens with the same for everybody."""
    return from_geometry(state.geometry(tasks), AwdParams.model_validate_json(params_json))


@st.cache_resource(max_entries=8, show_spinner=False)
def _solved_on_weights(reference: str, version: state.Stamp, tasks: tuple[str, ...], params_json: str) -> Disentangled:
    space, suite = state.workspace(), state.suite()
    vectors = space.vectors(suite, tasks)
    context = Context(state.device())
    found = disentangle(vectors, space.geometry(suite, tasks), AwdParams.model_validate_json(params_json), context)
    # The edit itself holds tensors; the charts need only the numbers.
    return replace(found, edit=LinearEdit({}, found.edit.report))
