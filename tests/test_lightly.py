"""What every process that collects tests has to load is kept small."""

import ast
from pathlib import Path

HERE = Path(__file__).parent
HEAVY = {"dask", "distributed", "nbclient", "open_clip", "optuna", "peft", "scipy", "sklearn", "timm", "transformers"}


def test_libraries_that_take_long_are_taken_from_lightly() -> None:
    loaded = []
    for path in HERE.rglob("*.py"):
        for one in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in one.names] if isinstance(one, ast.Import) else []
            names += [one.module or ""] if isinstance(one, ast.ImportFrom) else []
            loaded += [f"{path.relative_to(HERE)}: {name}" for name in names if name.partition(".")[0] in HEAVY]
    assert not loaded, "\n".join(loaded)
