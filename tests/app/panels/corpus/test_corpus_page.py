"""The corpus page as a visitor sees it: on the demo, on repositories of its own, and with each source broken."""

import io
import re
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from core.audit.acts import Act
from core.corpus.corpus import Corpus
from core.corpus.rebuild import KIND, jobs_of
from core.coverage.report import report_coverage
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.indexes.builds import find_probe, probe_index, save_probe
from core.indexes.ingest import read_version
from core.indexes.operations import register_index, swap_index
from core.indexes.probes import ProbeCheck, ProbeReport
from core.indexes.registry import Index, get_index, list_aliases, list_indexes
from core.jobs.jobs import Jobs, JobState
from core.predictions.operations import save_prediction
from core.predictions.predictions import predict_coverage
from quarterdeck.store import Store
from tests.conftest import CHAT, Demo
from tests.dvc_repos import DvcRepo
from tests.pages.opening import ask, only_error, open_page, text_of, verdict

pytestmark = [
    pytest.mark.slow,
    pytest.mark.sqlite_only("its pages read the corpus, and a store without rows"),
    pytest.mark.usefixtures("clean_streamlit"),
]

ME = Act("ada", "a test")
HOSTILE = "# Title\n\n![x](https://example.org/x.png) <script>alert(1)</script> $a$ :red[b]\n"
PIPELINE = """\
stages:
  chunk:
    cmd: cat corpus/*.md > chunks.txt
    deps: [corpus]
    outs: [chunks.txt]
  index:
    cmd: cp chunks.txt index.txt
    deps: [chunks.txt]
    outs: [index.txt]
"""


def picture() -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(target, "PNG")
    return target.getvalue()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> DvcRepo:
    """Two versions with a file of every kind, and a pipeline that never ran."""
    repo = DvcRepo.create(tmp_path_factory.mktemp("pages"))
    repo.write({
        "corpus/mbuf.md": "# Mbuf\nThe mbuf library allocates buffers.\n", "corpus/guides/eal.txt": "The EAL.\n",
        "corpus/gone.md": "# Gone\n", "corpus/ring.md": "# Ring\nA lockless queue of its own.\n",
        "corpus/hostile.md": HOSTILE, "corpus/logo.png": picture(), "corpus/paper.pdf": b"%PDF-1.4\n%%EOF\n",
        "corpus/data.bin": b"\xff\x00", "dvc.yaml": PIPELINE,
    })  # fmt: skip
    repo.commit("Start", track=("corpus",), tag="v1")
    repo.write({
        "corpus/mbuf.md": "# Mbuf\nThe mbuf library recycles buffers.\n", "corpus/gone.md": None,
        "corpus/ring.md": None, "corpus/guides/ring.md": "# Ring\nA lockless queue of its own.\n",
    })  # fmt: skip
    repo.commit("Recycle", track=("corpus",), tag="v2")
    repo.push()
    return repo


@pytest.fixture
def repo(
    library: DvcRepo, tmp_path: Path, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DvcRepo]:  # fmt: skip
    """A copy that a test may break, as the corpus of a deck with an empty store."""
    copied = library.copy(tmp_path / "library")
    monkeypatch.setenv("QUARTERDECK_CORPUS_REPO", str(copied.root))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(copied.site_cache))
    yield copied
    jobs_of(Corpus(copied.root)).cancel(KIND)
    Jobs(tmp_path / "home" / "jobs").cancel("verify")


def open_tab(tab: str, **filters: str) -> AppTest:
    return open_page("corpus", tab=tab, **filters)


def said(app: AppTest) -> str:
    """Every text of the page that is not in a table."""
    assert not app.exception
    shown = [*app.markdown, *app.caption, *app.info, *app.success, *app.warning, *app.error, *app.subheader]
    return " ".join(text_of(element.value) for element in shown)


def rows(app: AppTest, at: int = -1) -> list[dict[str, object]]:
    found: list[dict[str, object]] = app.dataframe[at].value.to_dict("records")
    return found


def test_the_versions_tell_which_is_live_in_which_index(as_demo: Demo) -> None:
    newest, oldest = rows(open_tab("Versions"), 0)
    assert (newest["version"], newest["live as"], newest["indexes"]) == ("v2", "", "docs-v2")
    assert (oldest["version"], oldest["live as"], oldest["indexes"]) == ("v1", "default", "docs-v1")
    assert oldest["size"] == sum(file.size_bytes or 0 for file in Corpus(as_demo.config.corpus_repo).list_files("v1"))


@pytest.mark.deep
def test_files_are_listed_folder_by_folder_and_found_by_name(repo: DvcRepo) -> None:
    listed = open_tab("Files", version="v1")  # a lone folder is opened at once
    assert [row["file"] for row in rows(listed)][:2] == ["guides/", "data.bin"]
    assert rows(open_tab("Files", path="corpus", version="v1")) == rows(listed)
    below = open_tab("Files", path="corpus/guides", version="v1")
    assert [row["file"] for row in rows(below)] == ["../", "eal.txt"]
    found = open_tab("Files", search="EAL", version="v1")
    assert [row["file"] for row in rows(found)] == ["corpus/guides/eal.txt"]
    assert "“eal” is in the path of 1 of the 8 files of v1" in said(found)
    assert "There is no nowhere in v1" in said(open_tab("Files", path="nowhere", version="v1"))


@pytest.mark.deep
def test_a_file_is_shown_as_what_it_is(repo: DvcRepo) -> None:
    markdown = open_tab("Files", path="corpus/hostile.md")
    shown = next(element.value for element in markdown.markdown if "Title" in element.value)
    assert "![" not in shown
    assert "\\$a\\$ \\:\u2060red[b]" in shown
    assert open_tab("Files", path="corpus/guides/eal.txt").code[-2].value == "The EAL."
    assert "8 x 6 pixels" in said(open_tab("Files", path="corpus/logo.png"))
    assert "neither UTF-8 text" in said(open_tab("Files", path="corpus/data.bin"))
    assert not open_tab("Files", path="corpus/paper.pdf").exception


@pytest.mark.deep
def test_the_commands_that_restore_a_file_and_a_version_really_do(repo: DvcRepo, tmp_path: Path) -> None:
    import shlex
    import subprocess
    import sys

    one, whole = (
        code.value for code in open_tab("Files", version="v1", path="corpus/gone.md").code if "dvc" in code.value
    )
    (tmp_path / "here").mkdir()
    command = shlex.split(one)
    assert command[:2] == ["dvc", "get"]
    subprocess.run([sys.executable, "-m", *command], cwd=tmp_path / "here", check=True, capture_output=True)
    assert (tmp_path / "here" / "gone.md").read_text() == "# Gone\n"
    assert whole.splitlines() == [f"cd {repo.root}", "git checkout v1", "dvc pull corpus.dvc"]


@pytest.mark.deep
def test_a_version_is_verified_in_the_background_and_its_end_is_told(repo: DvcRepo, tmp_path: Path) -> None:
    app = open_tab("Files", version="v1")
    app.button(key="corpus-verify").click().run()
    assert "Recorded as audit entry 1" in said(app)
    jobs = Jobs(tmp_path / "home" / "jobs")
    for _ in range(1_200):
        job = jobs.find("verify")
        if job and job.state is not JobState.RUNNING:
            break
        time.sleep(0.1)
    assert "Intact: each of 8 files of v1 in the remote origin matches its hash" in said(app.run())


@pytest.mark.deep
def test_the_difference_is_counted_filtered_and_shown_word_by_word(repo: DvcRepo) -> None:
    app = open_tab("Diff")
    assert "3 files differ between v1 and v2: **1** removed, **1** modified, **1** moved" in said(app)
    assert [(row["change"], row["file"]) for row in rows(app)] == [
        ("removed", "corpus/gone.md"), ("moved", "corpus/guides/ring.md"), ("modified", "corpus/mbuf.md"),
    ]  # fmt: skip
    assert rows(app)[1]["was"] == "corpus/ring.md"
    assert [row["file"] for row in rows(open_tab("Diff", kinds="modified"))] == ["corpus/mbuf.md"]
    assert [row["file"] for row in rows(open_tab("Diff", filter="RING"))] == ["corpus/guides/ring.md"]
    words = next(m.value for m in open_tab("Diff", change="corpus/mbuf.md").markdown if "-background[" in m.value)
    assert ":red-background[~~allocates~~]" in words
    assert ":green-background[**recycles**]" in words
    assert "It was corpus/ring.md before" in said(open_tab("Diff", change="corpus/guides/ring.md"))


@pytest.mark.deep
def test_what_is_not_committed_is_compared_too(repo: DvcRepo) -> None:
    repo.write({"corpus/draft.md": "Draft.\n", "corpus/mbuf.md": "# Mbuf\nNew.\n"})
    app = open_tab("Diff", old="v2", new="workspace")
    assert "2 files differ between v2 and the working copy as it is now: **1** added, **1** modified" in said(app)


@pytest.mark.deep
def test_the_pipeline_says_what_is_stale_and_why_and_is_rebuilt(repo: DvcRepo) -> None:
    app = open_tab("Pipeline")
    assert "**2 of 2** stages are stale, starting with chunk: was never run here" in said(app)
    assert rows(app)[1]["why"] == "was never run here: it is not in dvc.lock; stage chunk is stale"
    app.text_input(key="rebuild-reason").input("a new page")
    next(button for button in app.button if "Rebuild" in button.label).click().run()
    jobs = jobs_of(Corpus(repo.root))
    for _ in range(1_200):
        job = jobs.find(KIND)
        if job and job.state is not JobState.RUNNING:
            break
        time.sleep(0.1)
    app.run()
    assert "every stage ran; commit dvc.lock to keep this" in said(app)
    assert "All 2 stages are up to date" in said(app)


@pytest.mark.deep
def test_a_rebuild_without_a_reason_starts_nothing(repo: DvcRepo) -> None:
    app = open_tab("Pipeline")
    next(button for button in app.button if "Rebuild" in button.label).click().run()
    assert "Nothing was changed" in said(app)
    assert jobs_of(Corpus(repo.root)).find(KIND) is None


@pytest.mark.deep
@pytest.mark.parametrize(
    ("fault", "filters", "why"),
    [
        ("revision", {"tab": "Files", "version": "v99"}, "there is no revision 'v99'"),
        (
            "lost",
            {"tab": "Files", "version": "v1", "path": "corpus/gone.md"},
            "32b135bd98ea935d9f226430a36ea9f7 is neither",
        ),
        ("away", {"tab": "Files", "version": "v1", "path": "corpus/gone.md"}, "'origin' .* cannot be reached"),
        ("half", {"tab": "Files", "version": "workspace"}, "corpus.dvc is half written"),
        ("conflict", {"tab": "Diff", "old": "v1", "new": "workspace"}, "corpus.dvc is in a merge conflict"),
        ("pipeline", {"tab": "Pipeline"}, "dvc.yaml is invalid"),
        ("jobs", {"tab": "Files"}, "job.json cannot be read"),
    ],
)
def test_each_fault_is_a_line_of_its_own_and_the_rest_still_works(
    fault: str, filters: dict[str, str], why: str, repo: DvcRepo, tmp_path: Path
) -> None:
    gone = Path("32") / "b135bd98ea935d9f226430a36ea9f7"
    if fault in ("lost", "away"):
        (repo.cache / gone).unlink()
        (repo.storage / "files" / "md5" / gone).unlink()
    if fault == "away":
        repo.set_remote("http://127.0.0.1:1")
    if fault == "half":
        repo.write({"corpus.dvc": "outs:\n- path: corpus\n"})
    if fault == "conflict":
        repo.write({"corpus.dvc": "<<<<<<< HEAD\n=======\n>>>>>>> x\n"})
    if fault == "pipeline":
        repo.write({"dvc.yaml": "stages: ["})
    if fault == "jobs":
        (tmp_path / "home" / "jobs" / "verify").mkdir(parents=True)
        (tmp_path / "home" / "jobs" / "verify" / "job.json").write_text("{")
    app = open_page("corpus", **filters)
    assert re.search(why, only_error(app)), only_error(app)
    assert any("No version is live; the newest is v2" in text_of(m.value) for m in app.markdown)


@pytest.mark.deep
def test_a_repository_without_a_working_copy_says_what_it_cannot_do(
    repo: DvcRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    monkeypatch.setenv("QUARTERDECK_CORPUS_REPO", str(tmp_path / "bare.git"))
    assert "this repository has none" in said(open_tab("Pipeline"))
    assert "No file differs" not in said(open_tab("Diff"))


@pytest.mark.deep
@pytest.mark.parametrize("tab", ["Indexes", "What would it fix?"])
def test_without_any_index_the_next_step_is_named(tab: str, repo: DvcRepo) -> None:
    app = open_tab(tab)
    assert ("No index is built yet" if tab == "Indexes" else "A prediction needs a live index") in said(app)


@pytest.fixture
def deck(demo_url: str, as_demo: Demo) -> Iterator[Store]:
    """A copy of the demo's store, opened separately from the page's."""
    with closing(Store(demo_url)) as store:
        yield store


def keep_probe(deck: Store, demo: Demo, *, live: str = "docs-v1") -> None:
    embedder = Embedder(demo.config.embedding_model, cache=VectorCache(deck))
    save_probe(deck, probe_index(deck, embedder, "docs-v2", queries=("what is an mbuf",), live=live), ME, live=live)


def swap_on_the_page(app: AppTest, *, name: str, reason: str = "covers VPP") -> AppTest:
    app.text_input(key="swap-reason-default-docs-v1-docs-v2").input(reason)
    app.text_input(key="swap-name-default-docs-v1-docs-v2").input(name)
    return next(button for button in app.button if button.label == "Let it go live").click().run()


@pytest.mark.deep
def test_an_index_goes_live_after_its_probe_and_is_rolled_back(deck: Store, as_demo: Demo) -> None:
    assert "docs-v2 was not probed yet: it cannot go live" in said(open_tab("Indexes"))
    keep_probe(deck, as_demo)
    app = open_tab("Indexes")
    assert "20 of 20 passages are found by their own text" in said(app)
    refused = swap_on_the_page(app, name="docs-v3")
    assert "type docs-v2 to confirm" in said(refused)
    assert list_aliases(deck)[0].index_name == "docs-v1"
    app = swap_on_the_page(open_tab("Indexes"), name="docs-v2")
    assert verdict(app).startswith("v2 is live")
    assert "Recorded as audit entry" in said(app)
    assert ask(str(deck.url.database), "SELECT actor, reason FROM audit ORDER BY id DESC LIMIT 1") == [
        ("tester", "covers VPP")
    ]
    app.text_input(key="rollback-reason-docs-v2").input("answers got worse")
    next(button for button in app.button if button.label == "Roll back to docs\\-v1").click().run()
    assert verdict(app).startswith("v1 is live")
    assert list_aliases(deck)[0].index_name == "docs-v1"


@pytest.mark.deep
def test_an_index_whose_probe_failed_or_rests_on_another_live_one_cannot_go_live(deck: Store, as_demo: Demo) -> None:
    failed = ProbeReport(
        "docs-v2", (ProbeCheck("golden set", False, 0.4, "8 of 20 golden queries find their document"),)
    )
    save_probe(deck, failed, ME, live="docs-v1")
    app = open_tab("Indexes")
    assert "It did not pass its probe, so it does not go live" in said(app)
    assert not [button for button in app.button if button.label == "Let it go live"]
    passed = ProbeReport("docs-v2", (ProbeCheck("complete", True, 1.0, "all there"),))
    save_probe(deck, passed, ME, live="docs-v0")
    assert "Another index went live after that probe" in said(open_tab("Indexes"))


@pytest.mark.deep
def test_what_became_of_a_clean_up_is_said_beside_it(deck: Store, as_demo: Demo) -> None:
    built = datetime(2026, 3, 2, tzinfo=UTC)
    register_index(deck, Index("docs-v0", str(as_demo.config.home / "none"), "v0", "m", 9, built, "ada"), ME)
    app = open_tab("Indexes")
    app.number_input(key="corpus-keep").set_value(1).run()
    next(button for button in app.button if button.label == "Remove 1").click().run()
    assert only_error(app).startswith("**Nothing was changed** — reason")
    app.text_input(key="garbage-reason").input("nobody reads it")
    next(button for button in app.button if button.label == "Remove 1").click().run()
    assert [text_of(each.value) for each in app.success] == ["Removed 1 index: docs-v0."]
    assert [text_of(each.value) for each in app.toast] == ["Removed 1 index: docs-v0."]
    assert "docs-v0" not in {index.name for index in list_indexes(deck)}


@pytest.mark.deep
def test_a_swap_of_somebody_else_in_between_is_a_conflict(deck: Store, as_demo: Demo) -> None:
    keep_probe(deck, as_demo)
    app = open_tab("Indexes")
    swap_index(deck, "default", "docs-v2", ME, expected="docs-v1")
    assert "points to docs-v2, not to docs-v1" in said(swap_on_the_page(app, name="docs-v2"))
    assert find_probe(deck, "docs-v2")


@pytest.mark.deep
def test_a_prediction_is_shown_and_then_set_beside_what_was_measured(deck: Store, as_demo: Demo) -> None:
    assert "There is no prediction for v2 yet" in said(open_tab("What would it fix?"))
    embedder = Embedder(as_demo.config.embedding_model, cache=VectorCache(deck))
    coverage = report_coverage(deck, embedder, scope=CHAT, today=datetime.now(UTC).date())
    source = read_version(Corpus(as_demo.config.corpus_repo), "v2")
    found = predict_coverage(deck, embedder, source, get_index(deck, "docs-v1"), coverage)
    save_prediction(deck, found, ME, scope=CHAT)
    app = open_tab("What would it fix?")
    assert re.search(
        r"\*\*v2\*\* would lift \*\*\d\d%\*\* of the low-scoring questions, most of all “.*vpp", said(app).lower()
    )
    topics = {str(row["topic"]): row for row in rows(app, 0)}
    vpp = next(row for name, row in topics.items() if "vpp" in name.lower())
    assert float(str(vpp["predicted score"])) > float(str(vpp["live score"])) + 0.2
    off = re.search(r"searched in docs-v2: off by (\d\.\d+) over", said(app))
    assert off and float(off[1]) < 0.02
    assert "docs-v2 did not go live yet" in said(app)
    swap_index(deck, "default", "docs-v2", ME, expected="docs-v1")
    assert "docs-v2 went live today" in said(open_tab("What would it fix?"))


@pytest.mark.deep
def test_a_folder_outside_of_the_working_copy_is_not_read(deck: Store, as_demo: Demo) -> None:
    app = open_tab("What would it fix?", drafts="../../../../etc")
    app.button(key="corpus-predict").click().run()
    assert "is not a folder of the working copy" in said(app)


@pytest.mark.deep
def test_a_store_that_cannot_be_read_leaves_files_and_differences(
    repo: DvcRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "garbage.db").write_bytes(b"\x93garbage" * 4_000)
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", f"sqlite:///{tmp_path / 'garbage.db'}")
    for tab in ("Files", "Diff", "Pipeline"):
        app = open_tab(tab)
        assert not app.exception
        assert all("\n" not in error.value for error in app.error)
        assert rows(app)
