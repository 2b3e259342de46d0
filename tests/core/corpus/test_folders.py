from core.corpus.folders import FolderEntry, add_sizes, list_folder
from core.corpus.manifests import CorpusFile

FILES = [
    CorpusFile("corpus/guides/eal.md", 10, "m1"),
    CorpusFile("corpus/guides/deep/er.md", 5, "m2"),
    CorpusFile("corpus/mbuf.md", 7, "m3"),
    CorpusFile("corpus.txt", None, "m4"),
]


def test_the_top_holds_the_tracked_folders_and_files() -> None:
    assert list_folder(FILES) == (
        FolderEntry("corpus", "corpus", True, 3, 22),
        FolderEntry("corpus.txt", "corpus.txt", False, 1, None, "m4"),
    )


def test_a_folder_holds_its_folders_with_all_below_and_its_files() -> None:
    assert list_folder(FILES, "corpus") == (
        FolderEntry("corpus/guides", "guides", True, 2, 15),
        FolderEntry("corpus/mbuf.md", "mbuf.md", False, 1, 7, "m3"),
    )
    assert [entry.path for entry in list_folder(FILES, "corpus/guides/deep")] == ["corpus/guides/deep/er.md"]


def test_a_folder_that_is_not_there_is_empty() -> None:
    assert list_folder(FILES, "corp") == ()
    assert list_folder([]) == ()


def test_unknown_sizes_do_not_count() -> None:
    assert add_sizes(FILES) == 22
    assert add_sizes(FILES[-1:]) is None
