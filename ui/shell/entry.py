"""Makes sure that a page is drawn inside the app: with its sidebar, and with its errors in words."""

import runpy

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from ui.shell.state import ROOT


def through_app() -> None:
    """Draw the page by way of ``app.py`` if it is being run without; to be called first on every page.

    Until ``st.navigation`` was called once in a server, Streamlit takes the scripts in ``pages/`` for an app of its
    older kind and runs the one in the URL by itself. Where :mod:`ui.shell.serve` is not the server, that hits the first
    visitor who comes by a link to a page.
    """
    if PagesManager.uses_pages_directory:
        runpy.run_path(str(ROOT / "app.py"))
        st.stop()
