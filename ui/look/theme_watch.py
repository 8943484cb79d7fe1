"""Notices that the system turned dark or light while a page is open: the server draws charts for one of both."""

import streamlit as st

_HEARD = """
export default function ({ setTriggerValue }) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const tell = () => setTimeout(() => setTriggerValue("turned", dark.matches ? "dark" : "light"), 300);
  dark.addEventListener("change", tell);
  return () => dark.removeEventListener("change", tell);
}
"""


def watch_theme() -> None:
    """Have the page drawn again when that happens; it takes no room."""
    with st.container(key="theme-watch"):
        st.components.v2.component("theme_watch", js=_HEARD)(key="theme", on_turned_change=lambda: None)
