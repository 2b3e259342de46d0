"""A role that does not include reading questions: no page, in any of its elements, holds the text of one."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.audit.permissions import Roles
from core.config import PROJECT
from quarterdeck.intake import Counted, store_counts
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store
from tests.conftest import Demo
from tests.pages.opening import ask, forget, open_page

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]

PAGES = [
    ("overview", {}), ("questions", {}), ("questions", {"low": "1", "text": "mbuf"}),
    ("questions", {"show": "Review"}), ("questions", {"show": "Quality"}),
    ("corpus", {"tab": "Documents", "document_list": "Near duplicates"}),
    ("drift", {"days": "90d"}), ("drift", {"days": "7d"}), ("coverage", {"days": "30d"}),
    ("corpus", {"tab": "Prediction"}), ("corpus", {"tab": "Documents"}), ("corpus", {"tab": "Indexes"}),
    ("corpus", {}), ("prompts", {}),
    ("prompts", {"a": "qa-v1", "b": "qa-v2"}),
    ("prompts", {"tab": "Runs"}), ("prompts", {"tab": "Promote"}), ("prompts", {"tab": "Live"}),
    ("prompts", {"tab": "Names"}), ("prompts", {"tab": "Cases"}), ("prompts", {"tab": "Evaluate"}),
    ("rollouts", {"tab": "Canaries"}), ("rollouts", {"tab": "Experiments"}),
    ("rollouts", {}), ("audit", {}),
]  # fmt: skip


def list_texts(found: Any) -> Iterator[str]:
    """Every text in a tree of elements: what the browser gets."""
    for element in found.children.values():
        if hasattr(element, "children"):
            yield str(element.proto)
            yield from list_texts(element)
        else:
            yield element.value.to_csv() if element.type == "arrow_data_frame" else str(element.proto)


def fold(text: str) -> str:
    """Letters and digits of a text, however it is escaped, shortened or spaced."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower().replace("\\n", " "))


def find_shown(app: AppTest, questions: list[str]) -> list[str]:
    shown = fold("\n".join(list_texts(app._tree)))
    return [question for question in questions if fold(question)[:40].strip() in shown]


@pytest.fixture
def asked(demo_url: str) -> list[str]:
    """Every text that was asked in the demo, if it is more than a word; one that was refused; those of the cases."""
    with Store(demo_url).begin() as connection:
        refused = {Counted(DEFAULT_SCOPE, "http", "score"): (1, "score: wrong | how do I boil an egg")}
        store_counts(connection, refused)
    rows = ask(demo_url, "SELECT DISTINCT query FROM retrievals")
    texts = {row[0] for row in rows if len(row[0]) >= 15 and len(row[0].split()) >= 3}
    cases = (PROJECT / "data/demo/cases/qa.jsonl").read_text().splitlines()
    return sorted(texts | {"how do I boil an egg"} | {json.loads(case)["question"] for case in cases if case.strip()})


@pytest.mark.deep
def test_no_page_holds_a_question_for_a_role_that_may_not_read_them(
    as_demo: Demo, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(asked) > 50
    found = {f"{page} {filters}": find_shown(open_page(page, **filters), asked) for page, filters in PAGES}
    shown = {name.partition(" ")[0] for name, texts in found.items() if texts}
    assert shown >= {"overview", "coverage", "prompts"}  # the search finds what there is
    forget()
    monkeypatch.setattr("app.visitor.hold_everywhere", lambda role: Roles((("*", role),)))
    leaks = {}
    for page, filters in PAGES:
        app = open_page(page, **filters)
        assert not app.exception
        if texts := find_shown(app, asked):
            leaks[f"{page} {filters}"] = texts[:5]
    assert not leaks
