"""A remote in S3, plain and cloud-versioned, on moto's server. Needs the extra s3, and moto to test it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.corpus.corpus import Corpus
from core.errors import NotFound, SourceUnavailable
from tests.dvc_repos import DvcRepo

pytest.importorskip("dvc_s3", reason="the extra s3 is not installed: pip install 'quarterdeck-deck[s3]'")
pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[server,s3]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of botocore and moto
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server with the buckets plain and versioned."""
    import botocore.session
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        running.start()
        address = "http://{}:{}".format(*running.get_host_and_port())
        client = botocore.session.get_session().create_client("s3", endpoint_url=address)
        client.create_bucket(Bucket="plain")
        client.create_bucket(Bucket="versioned")
        client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
        yield address
        running.stop()


@pytest.fixture(scope="module", params=["plain", "versioned"])
def pushed(request: pytest.FixtureRequest, server: str, tmp_path_factory: pytest.TempPathFactory) -> DvcRepo:
    """Two versions that only the bucket has."""
    repo = DvcRepo.create(tmp_path_factory.mktemp(request.param))
    repo.dvc("remote", "modify", "origin", "url", f"s3://{request.param}/data")
    repo.dvc("remote", "modify", "origin", "endpointurl", server)
    if request.param == "versioned":
        repo.dvc("remote", "modify", "origin", "version_aware", "true")
    repo.write({"docs/a.md": "one\n", "docs/in/b.md": "two\n", "single.md": "single\n"})
    for tag, text in (("v1", "one\n"), ("v2", "changed\n")):
        repo.write({"docs/a.md": text})
        repo.dvc("add", "--quiet", "docs", "single.md")
        repo.dvc("push", "--quiet")  # writes the versions of the objects into the .dvc files
        repo.commit(tag, tag=tag)
    shutil.rmtree(repo.root / ".dvc" / "cache")
    return repo


def test_every_version_is_read_compared_and_verified_from_the_bucket(pushed: DvcRepo) -> None:
    corpus = Corpus(pushed.root)
    for revision, text in (("v1", b"one\n"), ("v2", b"changed\n")):
        assert [file.path for file in corpus.list_files(revision)] == ["docs/a.md", "docs/in/b.md", "single.md"]
        assert corpus.read_file(revision, "docs/a.md") == text
        assert corpus.read_file(revision, "single.md") == b"single\n"
        report = corpus.verify_version(revision)
        assert (report.is_whole, report.files) == (True, 3)
    assert [(c.kind, c.path) for c in corpus.compare_versions("v1", "v2").changes] == [("modified", "docs/a.md")]


def test_dvcs_own_file_system_reads_the_same_bytes(pushed: DvcRepo) -> None:
    from dvc.api import DVCFileSystem

    files = DVCFileSystem(str(pushed.root), rev="v1")
    corpus = Corpus(pushed.root)
    for file in corpus.list_files("v1"):
        assert files.cat_file(file.path) == corpus.read_file("v1", file.path)


def test_an_archive_of_a_version_comes_from_the_bucket(pushed: DvcRepo, tmp_path: Path) -> None:
    assert Corpus(pushed.root).archive("v1", tmp_path / "v1.zip").stat().st_size > 0


def test_a_bucket_that_is_not_there_says_so(pushed: DvcRepo, tmp_path: Path, server: str) -> None:
    copy = DvcRepo(tmp_path / "repo", pushed.storage, tmp_path / "site")
    shutil.copytree(pushed.root, copy.root)
    copy.dvc("remote", "modify", "--local", "origin", "url", "s3://nowhere/data")
    with pytest.raises((SourceUnavailable, NotFound)) as refused:
        Corpus(copy.root).read_file("v1", "single.md")
    assert "single.md of v1" in str(refused.value)
    assert "\n" not in str(refused.value)
