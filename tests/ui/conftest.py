"""Parts of pages in AppTest, as the pages' tests open it."""

from tests.app.conftest import what_does_not_change_is_read_once, whoever_waits_for_a_page_sleeps

__all__ = ["what_does_not_change_is_read_once", "whoever_waits_for_a_page_sleeps"]
