"""The gateway to `dvc.yaml`, on a real pipeline that really ran once."""

import json
from pathlib import Path

import pytest

from core.corpus.corpus import Corpus
from core.corpus.pipeline import Stage
from core.errors import SourceUnavailable
from tests.dvc_repos import DvcRepo

pytestmark = pytest.mark.slow

DVC_YAML = """\
vars:
- params.yaml
stages:
  chunk:
    cmd: cat corpus/*.md > chunks.txt && echo ${chunk.size} >> chunks.txt
    deps:
    - corpus
    params:
    - chunk.size
    outs:
    - chunks.txt
  index:
    cmd: mkdir -p index && cp chunks.txt index/all && wc -c < chunks.txt > size.json
    deps:
    - chunks.txt
    outs:
    - index
    metrics:
    - size.json:
        cache: false
  probe:
    foreach:
    - en
    - de
    do:
      wdir: probes
      cmd: grep -c ${item} ../index/all > ${item}.txt || true
      deps:
      - ../index
      outs:
      - ${item}.txt
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> DvcRepo:
    repo = DvcRepo.create(tmp_path_factory.mktemp("pipeline"))
    repo.write({"corpus/a.md": "alpha\n", "corpus/b.md": "beta\n"})
    repo.write({"dvc.yaml": DVC_YAML, "params.yaml": "chunk:\n  size: 200\n  overlap: 20\n", "probes/.keep": ""})
    repo.dvc("add", "--quiet", "corpus")
    repo.dvc("repro", "--quiet")
    repo.commit("Build", tag="v1")
    return repo


@pytest.fixture
def copy(built: DvcRepo, tmp_path: Path) -> DvcRepo:
    return built.copy(tmp_path)


def stale(repo: DvcRepo) -> dict[str, tuple[str, ...]]:
    return {stage.name: stage.reasons for stage in Corpus(repo.root).list_stale_stages()}


PROBES_WAIT = {"probe@en": ("stage index is stale",), "probe@de": ("stage index is stale",)}


@pytest.mark.deep
def test_stages_form_a_graph_with_templates_filled_in(built: DvcRepo) -> None:
    chunk, index, english, german = Corpus(built.root).list_stages()
    assert chunk == Stage(
        name="chunk",
        cmd="cat corpus/*.md > chunks.txt && echo 200 >> chunks.txt",
        deps=("corpus",),
        outs=("chunks.txt",),
        params=("params.yaml:chunk.size",),
        upstream=(),
    )
    assert (index.upstream, index.outs) == (("chunk",), ("index", "size.json"))
    assert (english.name, english.deps, english.outs) == ("probe@en", ("index",), ("probes/en.txt",))
    assert (german.name, german.upstream) == ("probe@de", ("index",))


@pytest.mark.deep
def test_outputs_of_the_pipeline_are_no_corpus(built: DvcRepo) -> None:
    assert [file.path for file in Corpus(built.root).list_files("v1")] == ["corpus/a.md", "corpus/b.md"]


@pytest.mark.deep
def test_nothing_is_stale_after_a_run(built: DvcRepo) -> None:
    assert stale(built) == {}
    assert json.loads(built.dvc("status", "--json")) == {}


@pytest.mark.deep
def test_an_edited_corpus_makes_everything_behind_it_stale(copy: DvcRepo) -> None:
    copy.write({"corpus/c.md": "gamma\n"})
    assert stale(copy) == {
        "chunk": ("dependency corpus changed",),
        "index": ("stage chunk is stale",),
        **PROBES_WAIT,
    }
    assert set(json.loads(copy.dvc("status", "--json"))) == {"corpus.dvc", "chunk"}


@pytest.mark.deep
def test_a_changed_parameter_tells_its_values_and_an_unused_one_is_ignored(copy: DvcRepo) -> None:
    copy.write({"params.yaml": "chunk:\n  size: 200\n  overlap: 99\n"})
    assert stale(copy) == {}
    copy.write({"params.yaml": "chunk:\n  size: 300\n"})
    assert stale(copy)["chunk"] == ("its command changed", "parameter params.yaml:chunk.size changed from 200 to 300")
    copy.write({"dvc.yaml": DVC_YAML.replace("${chunk.size}", "200"), "params.yaml": "chunk:\n  overlap: 20\n"})
    assert stale(copy)["chunk"] == ("parameter params.yaml:chunk.size is gone",)


def test_missing_and_edited_outputs_are_told_apart(copy: DvcRepo) -> None:
    (copy.root / "size.json").write_text("0\n")
    (copy.root / "probes" / "en.txt").unlink()
    assert stale(copy) == {
        "index": ("output size.json changed",),
        "probe@en": ("output probes/en.txt is missing", "stage index is stale"),
        "probe@de": ("stage index is stale",),
    }


def test_a_frozen_stage_does_not_wait_for_what_is_before_it(copy: DvcRepo) -> None:
    copy.write({"corpus/c.md": "gamma\n", "dvc.yaml": DVC_YAML.replace("  index:\n", "  index:\n    frozen: true\n")})
    assert set(stale(copy)) == {"chunk"}


def test_a_stage_that_never_ran_and_a_new_dependency_are_told_apart(copy: DvcRepo) -> None:
    new = "  fresh:\n    cmd: echo\n    deps:\n    - https://example.org/data\n"
    copy.write(
        {
            "dvc.yaml": DVC_YAML.replace("    - chunks.txt\n    outs:\n", "    - chunks.txt\n    - README\n    outs:\n")
            + new
        }
    )
    copy.write({"README": "Read."})
    assert stale(copy) == {
        "fresh": ("was never run here: it is not in dvc.lock",),
        "index": ("dependency README is new",),
        **PROBES_WAIT,
    }


def test_stages_of_a_subfolder_carry_its_name(copy: DvcRepo) -> None:
    copy.write({"sub/dvc.yaml": "stages:\n  copy:\n    cmd: cp ../chunks.txt .\n    deps:\n    - ../chunks.txt\n"})
    last = Corpus(copy.root).list_stages()[-1]
    assert (last.name, last.deps, last.upstream) == ("sub/dvc.yaml:copy", ("chunks.txt",), ("chunk",))


@pytest.mark.parametrize(
    "text",
    ["stages: [", "stages:\n  a:\n    cmd: echo ${nope}\n", "stages:\n  a:\n    deps: [x]\n", "stages: 3\n", "- a\n"],
)
def test_a_dvc_yaml_that_cannot_be_understood_is_named(copy: DvcRepo, text: str) -> None:
    copy.write({"dvc.yaml": text})
    with pytest.raises(SourceUnavailable, match=r"dvc\.yaml is invalid: "):
        Corpus(copy.root).list_stages()


def test_a_repository_without_a_pipeline_has_no_stages(copy: DvcRepo) -> None:
    copy.write({"dvc.yaml": None})
    assert Corpus(copy.root).list_stages() == ()
    assert Corpus(copy.root).list_stale_stages() == ()
