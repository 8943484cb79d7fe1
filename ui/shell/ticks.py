"""Parts of a page that look again by themselves: what the browser says when their clock ticks is nobody's wish."""

import dataclasses

from streamlit.runtime.scriptrunner_utils.script_requests import RerunData, ScriptRequests

_plain = ScriptRequests.request_rerun


def without_widgets(request: RerunData) -> RerunData:
    """A request to run a fragment again, without what widgets hold if a clock asks and not a person.

    A browser says with every tick what all widgets hold, as far as it knows. Where the server has just moved one (the
    button for the next step does), a tick that was on its way moves it back, and the page after it. Nothing is lost:
    what a person changes comes with a request of its own, in the same order.
    """
    return dataclasses.replace(request, widget_states=None) if request.is_auto_rerun else request


def _request_rerun(self: ScriptRequests, new_data: RerunData) -> bool:
    return _plain(self, without_widgets(new_data))


def say_nothing() -> None:
    """Have ticks move no widgets, in all sessions of this server; may be called again and again."""
    ScriptRequests.request_rerun = _request_rerun  # type: ignore[method-assign]
