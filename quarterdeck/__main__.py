"""The console command `quarterdeck`: hands over to the deck's CLI, where the deck is."""

import sys
from pathlib import Path


def main() -> None:
    """Run the deck's command line, or say that this environment holds the client alone."""
    if not (Path(__file__).resolve().parents[1] / "app" / "cli.py").exists():
        sys.exit("quarterdeck: this environment holds the client only; the commands run from the deck's checkout.")
    from app.cli import run

    run()


if __name__ == "__main__":
    main()
