"""The tab Replay: what its form starts, and what it shows of kept replays."""

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.panels.corpus.replay_changes import make_arguments
from benchmarks.index_swap import HashEmbedder
from core.audit.acts import Act
from core.embedding.chunks import Chunk
from core.errors import InvalidInput
from core.indexes.builds import build_version
from core.indexes.ingest import DocumentSource
from core.indexes.operations import swap_index
from core.replay.answering import compare_answers
from core.replay.operations import save_replay
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.core.replay.test_answering import RUN, ask, outcome
from tests.core.replay.test_comparison import about, compare, draw, hit
from tests.dvc_repos import DvcRepo
from tests.pages.opening import open_page, text_of

ME = Act("ada", "a test")
FORM = {
    "index": "", "documents": "", "characters": None, "model": "", "reranker": "", "prompt": "",
    "answerer": "extractive", "answering": "", "budget": 1.0,
}  # fmt: skip


def test_the_form_becomes_the_command() -> None:
    chain = FORM | {"index": "docs-v2", "characters": 400, "reranker": "bm25"}
    assert make_arguments(**chain) == ("replay", "--keep", "--characters=400", "--reranker=bm25", "--", "docs-v2")
    paid = FORM | {"prompt": "prompts:/qa/3", "answerer": "openai", "answering": "gpt-4o"}
    assert make_arguments(**paid) == (
        "replay", "--keep", "--prompt=prompts:/qa/3", "--answerer=openai", "--model=gpt-4o", "--max-cost-usd=1"
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="candidate: change at least one part"):
        make_arguments(**FORM)
    with pytest.raises(InvalidInput, match="answers: a model answers a prompt"):
        make_arguments(**FORM | {"reranker": "bm25", "answerer": "openai"})


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.sqlite_only("the store that it reads is tested on both in tests/core/replay")
@pytest.mark.usefixtures("clean_streamlit")
def test_kept_replays_of_every_candidate_are_shown(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = DvcRepo.create(tmp_path / "corpus")
    repo.write({"corpus/a.md": "# A\n"})
    repo.commit("Start", track=("corpus",), tag="v1")
    monkeypatch.setenv("QUARTERDECK_CORPUS_REPO", str(repo.root))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(repo.site_cache))
    with closing(Store(empty_url)) as store:
        append_retrievals(store, [Retrieval(datetime.now(UTC) - timedelta(days=2), "port", 1.0)])
        source = DocumentSource("v1", 1, (Chunk("a.md", "", "port"),))
        folder = str(tmp_path / "indexes")
        build_version(store, HashEmbedder(16, store), source, ME, location=folder, name="docs-v1")
        swap_index(store, "default", "docs-v1", ME, expected=None)
        app = open_page("corpus", tab="Replay")
        assert "Nothing was replayed for default yet" in said(app)
        found = make_kept()
        save_replay(store, found, ME)
        gone = replace(found, about=replace(found.about, candidate="docs-v9", changes=("docs-v9",)), answers=None)
        save_replay(store, gone, ME)
        app = open_page("corpus", tab="Replay", replayed="passages of 400 + prompt qa-v3")
        shown = said(app)
        assert "With **passages of 400 + prompt qa-v3**, the mean score goes from 0.50" in shown
        assert "Answers of **qa-v3** instead of qa-v2: faithfulness 1.00 to 0.50" in shown
        assert "docs-v9 was removed since" in said(open_page("corpus", tab="Replay", replayed="docs-v9"))


def make_kept():
    hits = [hit(0.5, 0.6)] * 4
    answers = compare_answers(
        RUN, ask(4), [outcome(at, 1.0) for at in range(4)], [outcome(at, 0.5) for at in range(4)], labels={}
    )
    found = compare(draw(*[0.5] * 4), hits)
    of = about(candidate="passages of 400 + prompt qa-v3", service="default")
    return replace(found, about=replace(of, changes=("passages of 400", "prompt qa-v3")), answers=answers)


def said(app) -> str:
    assert not app.exception
    return " ".join(text_of(each.value) for each in [*app.markdown, *app.caption, *app.warning, *app.error, *app.info])
