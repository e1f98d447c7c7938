"""Where the benchmarks find their data: $PARETOC_DATA, default ../shared/data. Nothing of it is in this project."""

import os
from pathlib import Path


def data_folder(name: str) -> str:
    """The folder of one data set."""
    return str(Path(os.environ.get("PARETOC_DATA", "../shared/data")) / name)
