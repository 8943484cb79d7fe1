"""What if: coefficients by hand, and what tasks, λ and directions do to each other."""

import streamlit as st

from merging.suites.suite import Split
from ui.accuracy import view as accuracy_view
from ui.shell import state
from ui.shell.entry import through_app
from ui.shell.url import choice, said_below
from ui.what_if.coefficients_view import coefficients_view
from ui.what_if.interference_view import interference_view
from ui.what_if.landscape_view import landscape_view
from ui.what_if.scaling_view import scaling_view

through_app()

VIEWS = {
    "coefficients": "Coefficients",
    "interference": "Drop one out",
    "scaling": "λ curves",
    "landscape": "Landscape",
}


def controls() -> tuple[str, Split]:
    """Which view, and on which images; curves over λ show both splits."""
    splits = {split: words.capitalize() for split, words in accuracy_view.SPLIT_WORDS.items()}
    with said_below(), st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        view = choice(st.segmented_control, "View", VIEWS, default="coefficients", required=True, key="what")
        split: Split = "val"
        if view != "scaling":
            split = choice(st.segmented_control, "Images", splits, default="val", required=True, key="what-split")
    return str(view), split


st.title("What if")
st.write("Move a coefficient and watch what becomes of every task; then ask why.")
chosen_view, chosen_split = controls()
if chosen_split == "test":
    st.warning(
        "These are test images, to explore with. Coefficients chosen by looking at them are chosen on test, and their "
        "test accuracy is then no fair estimate.",
        icon=":material/visibility:",
    )
show_view = {
    "coefficients": coefficients_view,
    "interference": interference_view,
    "scaling": scaling_view,
    "landscape": landscape_view,
}[chosen_view]
show_view(state.selected_tasks(), chosen_split)
