"""The form of the page Sweeps: methods, the values of their parameters to try, task subsets, how to search.

Widgets are bound to the URL, so that a link fills the form. Values are typed: ``0.1, 0.2`` or ``0.1 to 1 by 0.1``.
"""

from collections.abc import Mapping
from typing import Any, Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from merging.core import devices
from merging.core.errors import SpecError
from merging.core.text import short
from merging.methods import registry
from merging.methods.params import title_of
from merging.methods.registry import Stage
from merging.sweeps import SweepDefinition, parse_definition
from merging.sweeps.definition import build_definition
from merging.sweeps.domains import MAX_TRIALS, read_domain
from ui.look.figure import escape_markdown
from ui.shell import state
from ui.shell.url import choice, number, said_below

PARAMETERS = (
    "sweep",
    "subset",
    "from",
    "edits",
    "merges",
    "search",
    "trials",
    "objective",
    "sweep_seed",
    "subsets",
    "sweep_device",
    "parallel",
)
PREFIXES = ("edits.", "merges.")
_SYNTAX = (
    "Values with commas, such as 0.1, 0.2; or a range: 0.1 to 1 by 0.1. TPE also takes 0.1 to 1, and 0.01 to 1 log."
)
_SECTIONS: tuple[tuple[str, Literal["edit", "merge"], str], ...] = (
    ("edits", "edit", "Edits to try"),
    ("merges", "merge", "Merges to try"),
)
_METHODS = {"edit": registry.edits, "merge": registry.merges}
_SOURCES = {"form": "Form", "yaml": "YAML"}
_BOUNDS = {"trials": (1, MAX_TRIALS), "sweep_seed": (0, 2**32 - 1), "parallel": (1, 64)}
_SEARCHES = {"grid": "Grid", "tpe": "TPE"}
_OBJECTIVES = {"average": "Average accuracy", "normalised": "Normalised average"}


def read_subsets(text: str) -> list[list[str]]:
    """Task subsets, a line each.

    >>> read_subsets("digits, signs\\n\\nletters")
    [['digits', 'signs'], ['letters']]
    """
    lines = ([name.strip() for name in line.split(",") if name.strip()] for line in text.splitlines())
    return [names for names in lines if names]


def linked() -> bool:
    """Whether the URL fills the form, and does not lead to a sweep, which it names as soon as there is one."""
    ours = {*PARAMETERS} - {"sweep", "subset"}
    return "sweep" not in st.query_params and any(name in ours or name.startswith(PREFIXES) for name in st.query_params)


def draw(notes: DeltaGenerator) -> tuple[SweepDefinition | None, str]:
    """Draw the form; gives what to try, None with an error on screen if it can't be, and the scheduler's address.

    Args:
        notes: where to say what the URL asks for in vain; the form may be folded away.
    """
    with said_below(notes):
        source = choice(
            st.segmented_control,
            "Definition",
            _SOURCES,
            key="from",
            default="form",
            required=True,
            label_visibility="collapsed",
        )
        try:
            return _typed() if source == "yaml" else _filled_in()
        except SpecError as error:
            st.error(escape_markdown(str(error)), icon=":material/error:")
            return None, ""


def _filled_in() -> tuple[SweepDefinition, str]:
    methods: dict[str, dict[str, dict[str, Any]]] = {}
    for (section, kind, label), column in zip(_SECTIONS, st.columns(2, gap="medium"), strict=True):
        with column.container(border=True, height="stretch"):
            methods[section] = _methods(section, kind, label)
    options, scheduler = _options()
    subsets = read_subsets(options.pop("subsets"))
    definition = build_definition(
        {
            "suite": state.suite_reference(),
            "tasks": subsets or [list(state.selected_tasks())],
            **methods,
            **options,
        },
        "form",
    )
    st.session_state["sweep-yaml-proposal"] = definition.to_yaml()
    return definition, scheduler


def _methods(section: str, kind: Literal["edit", "merge"], label: str) -> dict[str, dict[str, Any]]:
    """The methods of one stage and the values of their parameters; what is left empty keeps its default."""
    known = _METHODS[kind]()
    chosen = choice(
        st.multiselect,
        label,
        {name: method.title for name, method in known.items()},
        key=section,
        default=["none"] if kind == "edit" else ["task_arithmetic"],
    )
    return {name: _parameters(section, known[name]) for name in chosen}


def _parameters(section: str, stage: Stage) -> dict[str, Any]:
    fields = stage.params.model_fields
    if not fields:
        return {}
    found = {}
    with st.expander(f"Values for {stage.title}", expanded=stage.params.scaling_name() is not None):
        for start in range(0, len(fields), 2):
            for name, column in zip(list(fields)[start : start + 2], st.columns(2), strict=False):
                field = fields[name]
                text = column.text_input(
                    title_of(field, name),
                    _suggested(stage, name),
                    key=f"{section}.{stage.name}.{name}",
                    bind="query-params",
                    placeholder=short(field.default),
                    help=f"{field.description or ''} {_SYNTAX}".strip(),
                )
                if text and text.strip():
                    found[name] = read_domain(text)
    return found


def _suggested(stage: Stage, name: str) -> str:
    """λ is what most sweeps are about; other parameters start at their defaults."""
    if name != stage.params.scaling_name():
        return ""
    default = stage.params.model_fields[name].default
    return "0.1 to 1 by 0.1" if isinstance(default, float) and default < 1 else "0.2 to 2 by 0.2"


def _options() -> tuple[dict[str, Any], str]:
    """How to search, and where."""
    with st.container(border=True):
        search, trials, objective, seed = st.columns(4, vertical_alignment="bottom")
        how = choice(
            search.segmented_control,
            "Search",
            _SEARCHES,
            key="search",
            default="grid",
            required=True,
            width="stretch",
            help="A grid tries every combination. TPE lets optuna propose each trial from the results so far.",
        )
        count = number(
            trials.number_input,
            "Trials a task subset",
            *_BOUNDS["trials"],
            30,
            key="trials",
            disabled=how == "grid",
            help="How many combinations TPE tries",
        )
        options: dict[str, Any] = {
            "search": how,
            "trials": int(count) if how == "tpe" else None,
            "objective": choice(
                objective.selectbox,
                "Maximise, on validation",
                _OBJECTIVES,
                key="objective",
                help="Normalised: every task's accuracy divided by that of its own model. Tasks to be forgotten, "
                "whose weights are negative, do not count.",
            ),
            "seed": int(
                number(
                    seed.number_input,
                    "Seed",
                    *_BOUNDS["sweep_seed"],
                    0,
                    key="sweep_seed",
                    help="Of the search and of every trial",
                )
            ),
        }
        with st.expander("Task subsets, device and cluster"):
            options["subsets"] = st.text_area(
                "Task subsets",
                key="subsets",
                bind="query-params",
                placeholder=", ".join(state.selected_tasks()),
                help="One a line, names with commas. Each is searched by itself. Empty: the tasks in the sidebar.",
            )
            device, parallel, address = st.columns([0.25, 0.25, 0.5])
            options["device"] = choice(
                device.selectbox,
                "Device",
                _device_names(),
                key="sweep_device",
                help="Where trials run. On a cluster it has to be cpu or cuda.",
            )
            options["parallel"] = int(
                number(
                    parallel.number_input,
                    "Trials at once",
                    *_BOUNDS["parallel"],
                    1,
                    key="parallel",
                    help="On a cluster as many as it has workers; this machine does one a device",
                )
            )
            scheduler = address.text_input(
                "Dask scheduler",
                key="scheduler",
                placeholder="tcp://host:8786",
                help="Empty: this machine. Its workers need this package and the suite's files under the same paths.",
            )
    return options, scheduler.strip()


def _device_names() -> list[str]:
    return list(dict.fromkeys([*devices.available(), "cuda"]))


def _typed() -> tuple[SweepDefinition, str]:
    """A definition typed or pasted as YAML; it starts as what the form said."""
    proposal = st.session_state.get("sweep-yaml-proposal") or example().to_yaml()
    text = st.text_area("Sweep as YAML", proposal, key="sweep-yaml", height=300)
    scheduler = st.text_input(
        "Dask scheduler", key="scheduler", placeholder="tcp://host:8786", help="Empty: this machine"
    )
    return parse_definition(text or "", "YAML"), scheduler.strip()


def example() -> SweepDefinition:
    """A sweep to begin with: Task Arithmetic with and without AWD, λ from 0.1 to 1, on the chosen tasks."""
    content: Mapping[str, Any] = {
        "suite": state.suite_reference(),
        "tasks": [list(state.selected_tasks())],
        "edits": {"none": {}, "awd": {}},
        "merges": {"task_arithmetic": {"scaling": read_domain("0.1 to 1 by 0.1")}},
        "device": str(state.device()),
    }
    return build_definition(content)
