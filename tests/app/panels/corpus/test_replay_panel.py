"""The replay on the tab Indexes: what is kept is shown, to those who may read it with the questions."""

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from benchmarks.index_swap import HashEmbedder
from core.audit.acts import Act
from core.embedding.chunks import Chunk
from core.embedding.embed import DEFAULT_MODEL
from core.flags.store import get_flag
from core.indexes.builds import build_version, get_live, save_probe
from core.indexes.ingest import DocumentSource
from core.indexes.operations import swap_index
from core.indexes.probes import ProbeReport
from core.indexes.registry import get_index
from core.jobs.jobs import Jobs, JobState
from core.log.retrievals import last_days
from core.replay.operations import save_replay
from core.replay.replaying import ReplayPlan, replay_index
from core.replay.report import find_replay
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SERVICE, Scope
from quarterdeck.store import Store
from tests.dvc_repos import DvcRepo
from tests.pages.opening import open_page, text_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.sqlite_only("the store that it reads is tested on both in tests/core/replay"),
    pytest.mark.usefixtures("clean_streamlit"),
]

ME = Act("ada", "a test")
SCOPE = Scope("production", DEFAULT_SERVICE)
TEXTS = [f"how do I set port {at}" for at in range(30)]


@pytest.fixture
def waiting(empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store with thirty questions, docs-v1 live and docs-v2, which lacks half of the pages, waiting."""
    repo = DvcRepo.create(tmp_path / "corpus")
    repo.write({"corpus/a.md": "# A\n"})
    repo.commit("Start", track=("corpus",), tag="v1")
    monkeypatch.setenv("QUARTERDECK_CORPUS_REPO", str(repo.root))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(repo.site_cache))
    with closing(Store(empty_url)) as store:
        embedder = HashEmbedder(48, store)
        embedder.model = DEFAULT_MODEL
        now = datetime.now(UTC)
        append_retrievals(store, [Retrieval(now - timedelta(days=2), text, 1.0) for text in TEXTS])
        for name, texts in (("docs-v1", TEXTS), ("docs-v2", TEXTS[:15])):
            rows = tuple(Chunk(f"{at}.md", "", text) for at, text in enumerate(texts))
            source = DocumentSource(name, len(rows), rows)
            build_version(store, embedder, source, ME, location=str(tmp_path / "indexes"), name=name)
        swap_index(store, "default", "docs-v1", ME, expected=None)
        yield store
    Jobs(tmp_path / "home" / "jobs").cancel("replay")


def open_tab() -> AppTest:
    return open_page("corpus", tab="Indexes")


def said(app: AppTest) -> str:
    assert not app.exception
    shown = [*app.markdown, *app.caption, *app.info, *app.success, *app.warning, *app.error, *app.subheader]
    return " ".join(text_of(element.value) for element in shown)


def keep(store: Store) -> None:
    embedder = HashEmbedder(48, store)
    embedder.model = DEFAULT_MODEL
    plan = ReplayPlan(SCOPE, last_days(7, until=datetime.now(UTC).date()), 0.8)
    live, candidate = get_live(store, "default"), get_index(store, "docs-v2")
    save_replay(store, replay_index(store, lambda _: embedder, live, candidate, plan), ME)


@pytest.mark.deep
def test_a_kept_replay_is_shown_with_its_sentence_and_the_questions_that_change_most(waiting: Store) -> None:
    assert "docs-v2 was not replayed for default yet" in said(open_tab())
    keep(waiting)
    app = open_tab()
    assert "With **docs-v2**, the mean score goes from 1.00 to 0." in said(app)
    assert "low scores from 0% to 50%" in said(app)
    changed = app.dataframe[-1].value.to_dict("records")
    assert len(changed) == 20
    assert set(TEXTS[15:]) <= {row["question"] for row in changed}
    assert "against docs-v1" in said(app)
    swap_index(waiting, "default", "docs-v2", ME, expected="docs-v1")
    assert "mean score goes from" not in said(open_page("corpus", tab="Indexes", index="docs-v1"))


@pytest.mark.deep
def test_the_button_replays_in_the_background_and_the_result_is_shown(waiting: Store, tmp_path: Path) -> None:
    app = open_tab()
    app.button(key="corpus-replay").click().run()
    assert "Recorded as audit entry" in said(app)
    jobs = Jobs(tmp_path / "home" / "jobs")
    for _ in range(3_000):
        job = jobs.find("replay")
        if job and job.state is not JobState.RUNNING:
            break
        time.sleep(0.1)
    assert job
    assert job.state is JobState.DONE, jobs.read_log("replay")
    assert find_replay(waiting, "docs-v2", SCOPE)
    assert "how do I" not in jobs.read_log("replay")
    assert "With **docs-v2**, the mean score goes from 1.00 to 0." in said(app.run())


@pytest.mark.deep
def test_before_a_rollback_the_replay_says_what_it_would_do(waiting: Store) -> None:
    keep(waiting)
    swap_index(waiting, "default", "docs-v2", ME, expected="docs-v1")
    told = said(open_page("corpus", tab="Indexes", index="docs-v1"))
    assert "If rolled back to docs-v1 now: 0 questions would get worse, 15 better, and 15 would stay alike" in told
    assert "This rests on the replay of 30 distinct questions" in told


@pytest.mark.deep
def test_before_a_rollback_without_a_replay_or_rows_nothing_is_told(waiting: Store) -> None:
    swap_index(waiting, "default", "docs-v2", ME, expected="docs-v1")
    assert "If rolled back to docs-v1 now: cannot tell" in said(open_page("corpus", tab="Indexes", index="docs-v1"))


@pytest.mark.deep
def test_an_index_that_passed_its_probe_is_tried_on_a_share_of_users(waiting: Store) -> None:
    save_probe(waiting, ProbeReport("docs-v2", ()), ME, live="docs-v1")
    app = open_page("corpus", tab="Indexes", index="docs-v2")
    app.text_input(key="canary-reason-default-docs-v1-docs-v2").input("half of the pages")
    app = next(button for button in app.button if button.label == "Start a canary").click().run()
    assert get_flag(waiting, "production", "index:default").view.green_pct == 5
    assert "A canary of default is at 5% of users in production." in said(app)
    app = open_page("rollouts", tab="Canaries")
    assert "Green is the index docs-v2; blue is docs-v1, to which default points." in said(app)
    assert "If rolled back to docs-v1 now: cannot tell, because no question was answered yet" in said(app)
