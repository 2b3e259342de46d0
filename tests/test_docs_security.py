"""The table of the ASVS: every requirement of levels 1 and 2 has a row, and what is called met names something real."""

import re
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| ([12]) \| ([^|]+) \| (met|not met|does not apply) \| (.+) \|$", re.MULTILINE)

# The numbers of levels 1 and 2 in ASVS 5.0.0: for each section, those of level 1 and those of level 2.
SECTIONS = """
1.1 /1 2
1.2 1 2 3 4 5/6 7 8 9
1.3 1 2/3 4 5 6 7 8 9 10 11
1.4 /1 2 3
1.5 1/2
2.1 1/2 3
2.2 1 2/3
2.3 1/2 3 4
2.4 /1
3.2 1 2/
3.3 1/2 3 4
3.4 1 2/3 4 5 6
3.5 1 2 3/4 5
3.7 /1 2
4.1 1/2 3
4.2 /1
4.3 /1 2
4.4 1/2 3 4
5.1 /1
5.2 1 2/3
5.3 1 2/
5.4 /1 2 3
6.1 1/2 3
6.2 1 2 3 4 5 6 7 8/9 10 11 12
6.3 1 2/3 4
6.4 1 2/3 4
6.5 /1 2 3 4 5
6.6 /1 2 3
6.8 /1 2 3 4
7.1 /1 2 3
7.2 1 2 3 4/
7.3 /1 2
7.4 1 2/3 4 5
7.5 /1 2
7.6 /1 2
8.1 1/2
8.2 1 2/3
8.3 1/
8.4 /1
9.1 1 2 3/
9.2 1/2 3 4
10.1 /1 2
10.2 /1 2
10.3 /1 2 3 4
10.4 1 2 3 4 5/6 7 8 9 10 11
10.5 /1 2 3 4 5
10.6 /1 2
10.7 /1 2 3
11.1 /1 2
11.2 /1 2 3
11.3 1 2/3
11.4 1/2 3 4
11.5 /1
11.6 /1
12.1 1/2 3
12.2 1 2/
12.3 /1 2 3 4
13.1 /1
13.2 /1 2 3 4 5
13.3 /1 2
13.4 1/2 3 4 5
14.1 /1 2
14.2 1/2 3 4
14.3 1/2 3
15.1 1/2 3
15.2 1/2 3
15.3 1/2 3 4 5 6 7
16.1 /1
16.2 /1 2 3 4 5
16.3 /1 2 3 4
16.4 /1 2 3
16.5 /1 2 3
17.1 /1
17.2 /1 2 3 4
17.3 /1 2
"""


@cache
def read_rows() -> list[tuple[str, ...]]:
    return [match.groups() for match in ROW.finditer((PROJECT / "docs/security.md").read_text(encoding="utf-8"))]


def list_numbers() -> set[tuple[str, str]]:
    found = set()
    for line in SECTIONS.strip().splitlines():
        section, *levels = line.split(" ", 1)[0], *line.split(" ", 1)[1].split("/")
        for level, numbers in zip("12", levels, strict=True):
            found |= {(f"{section}.{number}", level) for number in numbers.split()}
    return found


def test_every_requirement_has_one_row() -> None:
    named = [(number, level) for number, level, *_ in read_rows()]
    assert len(named) == len(set(named))
    assert set(named) == list_numbers()


def test_what_is_met_names_a_test_or_a_file_that_there_is() -> None:
    missing = []
    for number, _, _, state, shown in read_rows():
        if state != "met":
            assert "`" not in shown[:1] and len(shown) > 10, f"{number} needs a reason"
            continue
        path, _, test = shown.strip("`").partition("::")
        file = PROJECT / path
        is_there = file.exists() and (
            not test or re.search(rf"^\s*def {test}\(", file.read_text("utf-8"), re.MULTILINE)
        )
        missing += [] if is_there else [(number, shown)]
    assert missing == []


def test_the_sum_above_the_table_is_that_of_the_rows() -> None:
    states = [state for *_, state, _ in read_rows()]
    said = f"Of {len(states)} requirements, {states.count('met')} are met, {states.count('not met')} are not, and "
    said += f"{states.count('does not apply')} do not apply."
    assert said in (PROJECT / "docs/security.md").read_text(encoding="utf-8")
