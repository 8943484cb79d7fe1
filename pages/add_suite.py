"""Add a suite, of one's own files, a folder of checkpoints or the hub; and look at every file of the chosen one."""

import streamlit as st

from ui.shell.entry import through_app
from ui.shell.url import named_in_url
from ui.suites import added
from ui.suites.checking import check
from ui.suites.from_folder import add
from ui.suites.hub_suites import PARAMETER, offer_download
from ui.suites.own_files import own_files
from ui.suites.permission import may_add

through_app()

TABS = ["Your files", "Folder of checkpoints", "Hugging Face hub"]


def ways() -> None:
    """The three ways to add one, and what came of it."""
    with named_in_url("way", {title: title for title in TABS}):
        usual = TABS[2 if PARAMETER in st.query_params else 0]
        from_files, from_folder, from_hub = st.tabs(TABS, default=usual, key="way", bind="query-params")
    with from_files:
        own_files()
    with from_folder:
        st.write(
            "A folder of checkpoints becomes a suite by a file suite.yaml, which is written here by looking at the "
            "folder. Nothing else in it is changed, and a suite.yaml that is there is never replaced."
        )
        add()
    with from_hub:
        offer_download()
    added.show()


st.title("Add a suite")
if may_add():
    ways()
else:
    st.info("Suites are added by the owner of this dashboard.", icon=":material/lock:")
check()
