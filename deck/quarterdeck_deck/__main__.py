"""`python -m quarterdeck_deck`: the deck's command line."""

from quarterdeck_deck import main

if __name__ == "__main__":
    main()
