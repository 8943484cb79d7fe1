"""Parts of pages in AppTest, as the pages' tests open it."""

from tests.app.conftest import components_are_looked_for_once

__all__ = ["components_are_looked_for_once"]
