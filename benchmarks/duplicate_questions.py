"""From which similarity on do two real questions say the same? Pairs of BANKING77 by whether they have one intent.

An intent is wider than a question, and some intents of BANKING77 are near each other ("card arrival" and "card delivery
estimate"), so this is no share of true duplicates.
It shows from where on hardly any pair is about something else.

Run: `python -m benchmarks.duplicate_questions`.
"""

import numpy as np

from benchmarks.topics_quality import BANKING77, read_labeled
from core.cases.choosing import SAME_MEANING

THRESHOLDS = (0.80, 0.85, 0.88, SAME_MEANING, 0.92, 0.95)


def main() -> None:
    data = read_labeled(BANKING77)
    vectors, labels = data.vectors, data.classes
    similar = vectors @ vectors.T
    first, second = np.triu_indices(len(vectors), 1)
    pairs = similar[first, second]
    same = labels[first] == labels[second]
    print(f"{len(vectors):,} questions, {len(pairs):,} pairs, {same.mean():.1%} of them with one intent")
    for threshold in THRESHOLDS:
        near = pairs >= threshold
        print(f"from {threshold:.2f} on: {near.sum():>6,} pairs, {same[near].mean():.1%} with one intent")


if __name__ == "__main__":
    main()
