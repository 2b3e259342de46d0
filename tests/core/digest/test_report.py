"""The digest of a service over real stores: every section has its source, and one that is away is named."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.digests import read_digest, write_digest
from core.config import load_config
from core.digest.periods import read_since
from core.digest.rendering import MOST_BYTES
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store
from tests.conftest import CHAT, Demo

NOW = datetime.now(UTC)


@pytest.mark.deep
@pytest.mark.slow
def test_the_demo_s_digest_tells_the_drop_its_cause_and_what_was_shipped(demo: Demo) -> None:
    store = Store(demo.config.database_url)
    period = read_since("30d", today=NOW.date())
    found = {
        readable: read_digest(demo.config, store, scope=CHAT, period=period, now=NOW, readable=readable)
        for readable in (True, False)
    }
    store.close()
    told = {section.title: [line.text for line in section.lines] for section in found[True].sections}
    assert found[True].problems == ()
    assert told["What fell or rose"][0].startswith("Retrieval score fell by ")
    assert "users ask about something new" in told["What fell or rose"][0]
    assert "Ship corpus v2." in told["To decide"]
    assert any("new_prompt_v3 rolled out from 5% to 20%" in text for text in told["Shipped"])
    assert any("for" in text and "answers with a price" in text for text in told["Spending"])
    assert len(write_digest(found[True], "html", demo.config, at=NOW).encode()) < MOST_BYTES
    assert "vpp" in write_digest(found[True], "text", demo.config, at=NOW)
    hidden = write_digest(found[False], "json", demo.config, at=NOW).replace("Add FD.io VPP", "")
    assert "vpp" not in hidden.lower()
    assert "Topic " in hidden


def test_a_source_that_is_away_is_named_and_the_rest_is_told(store: Store, url: str, tmp_path: Path) -> None:
    rows = [Retrieval(NOW - timedelta(days=2), f"question {n}", 0.7, cost_usd=0.5) for n in range(4)]
    append_retrievals(store, rows)
    config = load_config({"QUARTERDECK_HOME": str(tmp_path), "QUARTERDECK_DATABASE_URL": url})
    period = read_since("7d", today=NOW.date())
    found = read_digest(config, store, scope=DEFAULT_SCOPE, period=period, now=NOW, readable=True)
    told = write_digest(found, "text", config, at=NOW)
    assert "4 questions (before: 0); mean score 0.70" in told
    assert "$2.00 for 4 answers with a price, $0.5000 each (before: $0.00 for 0)." in told
    assert "Not read: corpus versions: " in told
    assert not found.is_quiet
