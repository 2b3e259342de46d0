"""The console command `quarterdeck`: hands over to the deck's command line, wherever the deck is.

In a checkout it lies beside this package. An installed deck, the distribution `quarterdeck-deck`, names an entry point.
"""

import sys
from importlib.metadata import entry_points
from pathlib import Path

GROUP = "quarterdeck.deck"


def main() -> None:
    """Run the deck's command line, or say that this environment holds the client alone."""
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").exists() and (checkout / "app" / "cli.py").exists():
        from app.cli import run

        run()
        return
    found = next(iter(entry_points(group=GROUP)), None)
    if found is None:
        sys.exit("quarterdeck: this environment holds the client only; the commands come with quarterdeck-deck.")
    found.load()()


if __name__ == "__main__":
    main()
