"""A clock's tick asks for a fragment, and says nothing of widgets; what a person did before it stays."""

from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData, ScriptRequests

from ui.shell import ticks


def moved(value: int) -> WidgetStates:
    return WidgetStates(widgets=[WidgetState(id="slider", int_value=value)])


def test_ticks_move_no_widgets() -> None:
    ticks.say_nothing()
    requests = ScriptRequests()
    requests.request_rerun(RerunData(widget_states=moved(3), fragment_id="fragment", is_auto_rerun=True))
    asked = requests.on_scriptrunner_ready().rerun_data
    assert (asked.widget_states, asked.fragment_id_queue) == (None, ["fragment"])


def test_a_tick_behind_a_click_leaves_what_was_moved() -> None:
    ticks.say_nothing()
    requests = ScriptRequests()
    requests.request_rerun(RerunData(widget_states=moved(4)))
    requests.request_rerun(RerunData(widget_states=moved(3), fragment_id="fragment", is_auto_rerun=True))
    asked = requests.on_scriptrunner_ready().rerun_data
    assert asked.widget_states == moved(4)
    assert asked.fragment_id_queue == []  # the whole page runs
