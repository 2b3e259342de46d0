"""The rule that reads `.dvc` files, on literal bytes."""

import pytest

from core.corpus.tracked import Tracked, parse_tracked, split_notes
from core.errors import SourceUnavailable

FOLDER = b"outs:\n- md5: 00ff.dir\n  size: 12\n  nfiles: 3\n  hash: md5\n  path: corpus\n"


def test_a_dvc_file_says_what_it_tracks() -> None:
    assert parse_tracked(FOLDER, "data/corpus.dvc") == (
        Tracked("data/corpus", "00ff.dir", 12, 3, False, None, "data/corpus.dvc"),
    )


def test_names_and_hashes_that_look_like_numbers_stay_texts() -> None:
    (out,) = parse_tracked(b"outs:\n- md5: 12345678901234567890123456789012\n  path: 1_000\n", "n.dvc")
    assert (out.path, out.md5, out.legacy, out.file_count) == ("1_000", "12345678901234567890123456789012", True, 1)


def test_a_working_folder_and_a_remote_are_respected() -> None:
    (out,) = parse_tracked(
        b"wdir: ../docs\nouts:\n- md5: ab\n  hash: md5\n  path: faq.md\n  remote: archive\n", "d/f.dvc"
    )
    assert (out.path, out.remote) == ("docs/faq.md", "archive")


def test_cloud_versioned_data_bring_their_list_of_files() -> None:
    text = b"outs:\n- hash: md5\n  path: corpus\n  files:\n  - relpath: a.md\n    md5: 0a\n    size: 4\n"
    (out,) = parse_tracked(text, "corpus.dvc")
    assert out.is_folder
    assert out.listing is not None
    assert [(file.path, file.size_bytes, file.md5) for file in out.listing] == [("corpus/a.md", 4, "0a")]


def test_the_output_of_an_old_pipeline_stage_is_no_corpus() -> None:
    assert parse_tracked(b"cmd: python train.py\n" + FOLDER, "train.dvc") == ()


def test_a_merge_conflict_is_named_with_the_way_out() -> None:
    text = b"outs:\n<<<<<<< HEAD\n- md5: aa.dir\n=======\n- md5: bb.dir\n>>>>>>> other\n  path: corpus\n"
    with pytest.raises(SourceUnavailable, match=r"corpus\.dvc is in a merge conflict.*git checkout --ours"):
        parse_tracked(text, "corpus.dvc")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not complete YAML"),
        (b"outs:\n- md5: aa", "not complete YAML"),
        (b"outs:\n- path: corpus\n", "corpus has no md5"),
        (b"outs:\n- path: corpus\n  md5:\n", "corpus has no md5"),
        (b"outs:\n- path: corpus\n  md5: aa\n  size: 3x\n", "invalid literal"),
        (b"outs: [", "not complete YAML"),
        (b"just words", "not complete YAML"),
        (b"outs:\n- md5: aa\n  path: \x00\n", "not complete YAML"),
    ],
)
def test_a_half_written_dvc_file_is_named_with_the_way_out(text: bytes, why: str) -> None:
    with pytest.raises(SourceUnavailable, match=rf"corpus\.dvc is half written: .*{why}.*git checkout corpus\.dvc"):
        parse_tracked(text, "corpus.dvc")


@pytest.mark.parametrize("path", ["/etc", "../elsewhere", "s3://bucket/data"])
def test_data_outside_of_the_repository_are_left_out_and_noted(path: str) -> None:
    text = f"outs:\n- md5: aa\n  path: {path}\n- md5: bb\n  path: inside\n".encode()
    outs, notes = split_notes(parse_tracked(text, "corpus.dvc"))
    assert [out.path for out in outs] == ["inside"]
    assert notes == (
        f"{path} of corpus.dvc is outside of the repository, so it is left out. "
        "Only data inside can be shown: dvc add a folder of it",
    )


def test_an_import_that_was_not_downloaded_is_left_out_and_says_how_to_have_it() -> None:
    text = b"""
md5: 092742e695fdf645b57c315acb447ad5
frozen: true
deps:
- path: docs
  repo:
    url: https://git.example.org/lib
    rev_lock: 84e9ec18df62ad9a001cd1da2a1c61875d0c2903
outs:
- hash: md5
  path: third
"""
    outs, notes = split_notes(parse_tracked(text, "a folder/third.dvc"))
    assert outs == ()
    assert notes == (
        "a folder/third of a folder/third.dvc is not downloaded, so it is left out. "
        "Run: dvc update 'a folder/third.dvc'",
    )


def test_a_cloud_listing_keeps_the_files_that_have_a_hash() -> None:
    text = b"""
deps: [{path: "s3://bucket/data"}]
outs:
- path: cloud
  hash: md5
  files:
  - {relpath: a.md, md5: 0a, size: 4}
  - {relpath: b.md, etag: 12345, version_id: abc, size: 5}
"""
    (out,) = parse_tracked(text, "cloud.dvc")
    assert [file.path for file in out.listing or ()] == ["cloud/a.md"]
    assert "1 file of cloud is not downloaded" in out.note
    assert "dvc update cloud.dvc" in out.note


@pytest.mark.parametrize(
    "text",
    [
        b"outs: " + b"[" * 200_000,
        b"- " * 200_000,
        b"{a: " * 200_000,
        b"outs: [{md5: aa, path: " + b"[" * 100 + b"]" * 100 + b"}]",
        b"a: &a [x, x]\nb: &b [*a, *a]\nouts: [{md5: aa, path: c, remote: *b}]",
        b"a: &a [*a]\nouts: *a",
        b"outs: [{path: x, md5: aa, files: [[[]]]}]",
    ],
)
def test_a_dvc_file_made_to_end_the_server_is_refused(text: bytes) -> None:
    with pytest.raises(SourceUnavailable, match=r"bomb\.dvc is half written"):
        parse_tracked(text, "bomb.dvc")
