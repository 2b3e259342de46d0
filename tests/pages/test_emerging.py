"""Topics that are new stand on the overview, with their questions for readers."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.audit.settings import Family, save_setting, scope_key
from core.embedding.vectors import hash_text
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store
from tests.pages.opening import open_page, shown_text, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]
ASKED = "How do I link my card?"


@pytest.mark.deep
def test_a_new_topic_stands_on_the_overview_and_its_link_lists_its_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTERDECK_HOME", str(tmp_path))
    monkeypatch.setenv("QUARTERDECK_OPERATOR", "tester")
    url = f"sqlite:///{tmp_path}/deck.db"
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    now = datetime.now(UTC)
    day = (now - timedelta(days=1)).date()
    with closing(Store(url, create=True)) as store:
        rows = [Retrieval(now - timedelta(days=1, seconds=n), ASKED, 0.7, retrieval_id=f"q-{n}") for n in range(6)]
        append_retrievals(store, [*rows, Retrieval(now - timedelta(days=1), "Something else?", 0.7)])
        topic = {
            "id": "n-1", "since": day.isoformat(), "called_on": day.isoformat(), "count": 6, "expected": 0.2,
            "odds": 9_000.0, "questions": [hash_text(ASKED).hex()],
        }  # fmt: skip
        kept = {"until": day.isoformat(), "model": "made", "problem": "", "topics": [topic]}
        with store.begin() as connection:
            save_setting(connection, scope_key(Family.EMERGING, DEFAULT_SCOPE), kept, expected_version=0)
    shown = shown_text(open_page("overview"))
    assert f"“{ASKED}”: 6 questions by as many sessions, where 0.2 were expected." in shown
    week, last = day - timedelta(days=7), now.date()
    assert verdict(open_page("questions", new="n-1", days="7d")) == (
        f"6 of 7 questions from {week.day} {week:%b} to {last.day} {last:%b} belong to “How do I link my card?”."
    )
