"""Brings a part of a page into sight that somebody has just asked for, where the page is longer than the window."""

import streamlit as st

_SCROLL = """
let last;
export default function ({ data }) {
  if (data.time === last) return;
  last = data.time;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  document.querySelector(`.st-key-${data.key}`)?.scrollIntoView({ behavior: still ? "instant" : "smooth" });
}
"""


def bring_into_sight(key: str) -> None:
    """Scroll to a container, once, as far as there is page below its top; to be called once it is drawn.

    Args:
        key: of the container.
    """
    counted = f"{key}-brought"
    st.session_state[counted] = st.session_state.get(counted, 0) + 1
    with st.container(key="into-sight"):
        data = {"key": key, "time": st.session_state[counted]}
        st.components.v2.component("into_sight", js=_SCROLL)(key="into-sight-script", data=data)
