"""Which folder a command works on: its argument, RESTANTE_PATH, or the platform's data folder."""

import os
from pathlib import Path

import platformdirs


def node_path(directory: str | None) -> Path:
    """The node's folder."""
    if directory is not None:
        return Path(directory)
    given = os.environ.get("RESTANTE_PATH")
    if given:
        return Path(given)
    return Path(platformdirs.user_data_dir("restante", appauthor=False))
