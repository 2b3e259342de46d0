"""The corpus page: on the demo, and on a repository that is empty, broken or hostile."""

import shutil
from pathlib import Path

import pytest

from core.config import PROJECT
from tests.conftest import Demo
from tests.dvc_repos import DvcRepo
from tests.pages.opening import HOSTILE, ask, assert_shown_as_text, only_error, open_page, text_of, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


def test_corpus_says_what_is_live_and_what_is_newer(as_demo: Demo) -> None:
    said = verdict(open_page("corpus"))
    live = "SELECT corpus_version FROM indexes JOIN aliases ON index_name = name WHERE alias = 'default'"
    ((version,),) = ask(as_demo.config.home / "quarterdeck.db", live)
    v1, v2 = ({path.name for path in (PROJECT / "data/demo/corpus" / name).glob("*.md")} for name in ("v1", "v2"))
    assert version == "v1"
    assert said.startswith("v1 is live (committed 60 d ago); v2 is newer")
    assert f"(files: {len(v2 - v1)} added, {len(v2 & v1)} modified, 1 renamed)" in said


@pytest.mark.deep
def test_corpus_of_a_repository_that_tracks_nothing_says_how_to_track_it(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = DvcRepo.create(tmp_path / "corpus")
    repo.git("add", "--all")
    repo.git("commit", "--quiet", "--message", "start")
    monkeypatch.setenv("QUARTERDECK_CORPUS_REPO", str(repo.root))
    app = open_page("corpus")
    assert (len(app.exception), len(app.error)) == (0, 0)
    assert "dvc add" in app.code[0].value


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["missing", "no repository", "broken"])
def test_corpus_says_in_one_line_that_the_repository_cannot_be_read(
    kind: str, as_demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere"
    if kind != "missing":
        folder.mkdir()
    if kind == "broken":
        shutil.copytree(as_demo.config.home / "corpus", folder, dirs_exist_ok=True)
        shutil.rmtree(folder / ".git" / "objects")
    monkeypatch.setenv("QUARTERDECK_CORPUS_REPO", str(folder))
    assert str(folder) in only_error(open_page("corpus"))
    overview = open_page("overview")
    assert not overview.exception
    assert "score fell by 0." in text_of(" ".join(m.value for m in overview.markdown))


@pytest.mark.deep
def test_hostile_file_names_and_messages_are_shown_as_text(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = DvcRepo.create(tmp_path / "corpus")
    name = HOSTILE.replace("/", "|")
    repo.write({f"corpus/{name}": "text", "corpus/plain.md": "text"})
    repo.dvc("add", "--quiet", "corpus")
    repo.git("add", "--all")
    repo.git("commit", "--quiet", "--message", HOSTILE)
    repo.git("tag", "<b>v1`y`$x$")
    monkeypatch.setenv("QUARTERDECK_CORPUS_REPO", str(repo.root))
    app = open_page("corpus")
    assert_shown_as_text(app)
    assert_shown_as_text(open_page("overview"))
    assert "<b>v1`y`$x$" in verdict(app)
    files = open_page("corpus", tab="Files", path="corpus")
    assert_shown_as_text(files)
    assert any(name in str(table.value.to_dict()) for table in files.dataframe)
    assert_shown_as_text(open_page("corpus", tab="Files", path=f"corpus/{name}"))
