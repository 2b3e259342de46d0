"""The public data, in the folder that QUARTERDECK_BENCH_DATA names. It is not part of the repository."""

import os
from pathlib import Path


def locate(*parts: str) -> Path:
    """Return the path of a file or folder of the public data. Without the variable it does not exist, and says why."""
    return Path(os.environ.get("QUARTERDECK_BENCH_DATA") or "$QUARTERDECK_BENCH_DATA").joinpath(*parts)
