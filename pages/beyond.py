"""Beyond the benchmark: what merged models are good for besides clean images of the tasks that were merged."""

import streamlit as st

from ui.beyond.corrupted_view import corrupted_view
from ui.beyond.many_view import many_view
from ui.beyond.unseen_view import unseen_view
from ui.shell import state
from ui.shell.entry import through_app
from ui.shell.url import choice

through_app()

VIEWS = {"unseen": "Unseen tasks", "corrupted": "Corrupted images", "many": "Many tasks"}

st.title("Beyond the benchmark")
st.write("Is the best merge on clean images of its own tasks the best elsewhere, too?")
chosen_view = choice(st.segmented_control, "View", VIEWS, default="unseen", required=True, key="beyond")
show_view = {"unseen": unseen_view, "corrupted": corrupted_view, "many": many_view}[chosen_view]
show_view(state.selected_tasks())
