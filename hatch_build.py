"""What the build of a wheel adds to pyproject.toml's description."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Dashboard(BuildHookInterface):  # type: ignore[type-arg]
    """Puts app.py beside the pages inside the package.

    Only in a wheel: an editable installation takes what is forced from pyproject.toml as a copy, and a folder of the
    package's name in site-packages would look like the package to who is without it.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the build; ``version`` is ``standard`` or ``editable``."""
        if version == "standard":
            build_data["force_include"]["app.py"] = "merging/_app/app.py"
