"""The colors of charts, in one place: an arm, a version or a topic has the same color wherever it is drawn.

Okabe and Ito's palette is distinguishable with every common color blindness; its yellow and black are left out, because
each is hard to see in one of the two themes. Gray is only for what others are compared with.
"""

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

CATEGORIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
ACCENT, WARNING, GREEN, PINK, LIGHT, DANGER = CATEGORIES
QUIET = "#8a94a6"
# What topics and versions are drawn in: no color that means a state, a decision or the day of a drop elsewhere.
TOPIC_COLORS = (ACCENT, GREEN, PINK, LIGHT, "#8468c6")
VIOLET = TOPIC_COLORS[-1]
# Eight versions are drawn at once, each also with a symbol of its own.
VERSION_COLORS = (*TOPIC_COLORS, WARNING, "#a6761d", DANGER)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "pentagon", "triangle-down", "star")
ARM_COLORS = {"blue": ACCENT, "green": GREEN}
_OTHER_ARMS = (WARNING, PINK, LIGHT, VIOLET)
_LAST_NUMBER = re.compile(r"(\d{1,6})\D*$")
_Thing = TypeVar("_Thing", bound=Hashable)


def color_arms(arms: Iterable[str]) -> dict[str, str]:
    """Return the color of each arm: blue and green have their own, the others one by their place among them.

    >>> color_arms(["green", "short", "long"])
    {'green': '#009e73', 'short': '#e69f00', 'long': '#cc79a7'}
    """
    others = [arm for arm in arms if arm not in ARM_COLORS]
    named = {arm: _OTHER_ARMS[at % len(_OTHER_ARMS)] for at, arm in enumerate(others)}
    return {arm: ARM_COLORS.get(arm) or named[arm] for arm in arms}


def place_versions(versions: Sequence[tuple[_Thing, str]], places: int = len(VERSION_COLORS)) -> dict[_Thing, int]:
    """Return the place of each thing in a palette by its version's name: `v3` is at the third, whoever else is there.

    Of things of one version, the first keeps its place; the others, and those whose name has no number, take the places
    that are left. With more things than places, places repeat.
    """
    placed: dict[_Thing, int] = {}
    waiting: list[_Thing] = []
    for thing, version in versions:
        found = _LAST_NUMBER.search(version)
        place = (int(found[1]) - 1) % places if found else None
        if place is None or place in placed.values():
            waiting.append(thing)
        else:
            placed[thing] = place
    for at, thing in enumerate(waiting):
        left = [place for place in range(places) if place not in placed.values()]
        placed[thing] = left[0] if left else at % places
    return placed


def fade(color: str, opacity: float = 0.18) -> str:
    """Return a color of six digits with an opacity of 0 to 1, as charts take it.

    >>> fade("#0072b2")
    'rgba(0,114,178,0.18)'
    """
    return f"rgba({int(color[1:3], 16)},{int(color[3:5], 16)},{int(color[5:7], 16)},{opacity:g})"
