"""The installed deck: `app`, `core`, `pages` and the demo's data lie in this folder.

Their names are too plain for everybody's path, so the folder is put on the path of the deck's own process only.
"""

import sys
from pathlib import Path


def main() -> None:
    """Run the deck's command line."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from app.cli import run

    run()
