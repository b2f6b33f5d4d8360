"""Settings as a run reads them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gantry_runtime.settings import Settings, load_settings


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Settings]:
    """Loads settings from the text of a file and names of the environment."""

    def from_text(text: str = "", **environ: str) -> Settings:
        file = tmp_path / "gantry.yaml"
        file.write_text(text, encoding="utf-8")
        names = {"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(tmp_path / "data"), **environ}
        return load_settings(names)

    return from_text
