"""How long the Corpus page waits for its gateway, against `dvc.repo.Repo.diff` on the same repository in the same run.

Run: python -m benchmarks.corpus_browse
Builds in a temporary folder a repository of 20,000 files in 50 versions, and one of 300,000 files in two. Exits with 1
when a figure misses its bar, or when the difference found is not the one that DVC finds.
"""

import hashlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.corpus.corpus import Corpus
from core.corpus.manifests import FileChangeKind
from core.corpus.versions import VersionDiff

FILES, VERSIONS, MANY_FILES, ROUNDS = 20_000, 50, 300_000, 7


def main() -> int:
    os.environ["DVC_NO_ANALYTICS"] = "1"
    with tempfile.TemporaryDirectory(prefix="quarterdeck-bench-") as folder:
        os.environ["DVC_SITE_CACHE_DIR"] = f"{folder}/site-cache"
        passed = [_browse(Path(folder) / "browse"), _many(Path(folder) / "many")]
    return 0 if all(passed) else 1


def _browse(root: Path) -> bool:
    print(f"{FILES:,} files, {VERSIONS} versions (median of {ROUNDS}, each on a new Corpus: nothing remembered)")
    build_repository(root, files=FILES, versions=VERSIONS, objects=True)
    before = _memory_mb()
    versions, listing = _timed(lambda: Corpus(root).list_versions())
    assert len(versions) == VERSIONS
    assert (versions[0].added, versions[0].removed, versions[0].modified, versions[0].renamed) == (20, 10, 100, 10)
    files, files_of = _timed(lambda: Corpus(root).list_files("v25"))
    assert len(files) == versions[VERSIONS - 25].files
    assert all(file.size_bytes for file in files)
    diff, diffing = _timed(lambda: Corpus(root).compare_versions("v1", f"v{VERSIONS}"))
    step, stepping = _timed(lambda: Corpus(root).compare_versions("v24", "v25"))
    grown = _memory_mb() - before
    passed = [
        _report("version list, with counts", listing, 0.3),
        _report("files of one version, with sizes", files_of, 0.1),
        _report(f"diff v1..v{VERSIONS} ({len(diff.changes):,} changes)", diffing, 0.15),
        _report(f"diff v24..v25 ({len(step.changes):,} changes)", stepping, 0.15),
        _compare_with_dvc(root, "v1", f"v{VERSIONS}", diff),
        _compare_with_dvc(root, "v24", "v25", step),
    ]
    print(f"  {'memory grown by all of the above':44} {grown:8.0f} MB   bar   300 MB")
    return all(passed) and grown < 300


def _many(root: Path) -> bool:
    print(f"{MANY_FILES:,} files, 2 versions")
    build_repository(root, files=MANY_FILES, versions=2, objects=False)
    diff, seconds = _timed(lambda: Corpus(root).compare_versions("v1", "v2"))
    passed = _report(f"diff v1..v2 ({len(diff.changes):,} changes)", seconds, 3.0)
    build_repository(root, files=MANY_FILES, versions=1, objects=False, salt="rewritten", tag="rewritten")
    diff, seconds = _timed(lambda: Corpus(root).compare_versions("v1", "rewritten"))
    return _report(f"diff, every file rewritten ({len(diff.changes):,})", seconds, 3.0) and passed


def _compare_with_dvc(root: Path, old: str, new: str, ours: VersionDiff) -> bool:
    """Time both alternately, so that a busy machine slows both alike."""
    from dvc.repo import Repo

    def diff() -> Any:
        with Repo(str(root)) as repo:
            return repo.diff(old, new)

    mine, theirs = [], []
    for _ in range(ROUNDS):
        mine.append(_timed(lambda: Corpus(root).compare_versions(old, new), rounds=1)[1])
        found, seconds = _timed(diff, rounds=1)
        theirs.append(seconds)
    equal = _as_sets(ours) == _dvc_sets(found)
    ratio = statistics.median(theirs) / statistics.median(mine)
    what = f"Repo.diff {old}..{new}, in turn with ours"
    print(f"  {what:44} {statistics.median(theirs) * 1e3:8.1f} ms   {ratio:.1f}x ours (bar 8x), equal content: {equal}")
    return equal and ratio >= 8


def _as_sets(diff: VersionDiff) -> dict[str, set[Any]]:
    """DVC calls a moved file renamed."""
    sets: dict[str, set[Any]] = {kind.value: set() for kind in FileChangeKind if kind is not FileChangeKind.MOVED}
    for change in diff.changes:
        kind = FileChangeKind.RENAMED if change.kind is FileChangeKind.MOVED else change.kind
        sets[kind].add((change.old_path, change.path) if change.old_path else change.path)
    return sets


def _dvc_sets(diff: dict[str, list[dict[str, Any]]]) -> dict[str, set[Any]]:
    """DVC lists the folders that hold a change as well; they end in a slash."""
    found: dict[str, set[Any]] = {}
    for kind, name in (("added", "added"), ("removed", "deleted"), ("modified", "modified")):
        found[kind] = {entry["path"] for entry in diff[name] if not entry["path"].endswith("/")}
    found["renamed"] = {(entry["path"]["old"], entry["path"]["new"]) for entry in diff["renamed"]}
    return found


def build_repository(
    root: Path, *, files: int, versions: int, objects: bool, salt: str = "", tag: str | None = None
) -> None:
    """Write cache objects, manifests and commits as DVC would, without its many seconds of hashing."""
    rng = random.Random(7)
    if not root.exists():
        (root / ".dvc").mkdir(parents=True)
        (root / ".dvc" / "config").write_text("")
        (root / ".dvc" / ".gitignore").write_text("/cache\n/tmp\n/config.local\n")
        _git(root, "init", "--quiet", "--initial-branch=main")
    contents = {f"section{i % 40:02d}/page_{i:06d}.md": f"{salt}page {i} as first written\n" for i in range(files)}
    for number in range(1, versions + 1):
        if number > 1:
            _edit(contents, rng, number, scale=max(1, files // 20_000))
        _commit(root, contents, tag or f"v{number}", objects=objects)


def _edit(contents: dict[str, str], rng: random.Random, number: int, *, scale: int) -> None:
    """Modify 100, remove 10, rename 10 and add 20 files (times `scale`)."""
    chosen = rng.sample(sorted(contents), 120 * scale)
    modified, removed, renamed = chosen[: 100 * scale], chosen[100 * scale : 110 * scale], chosen[110 * scale :]
    for path in modified:
        contents[path] += f"changed in version {number}\n"
    for path in removed:
        del contents[path]
    for path in renamed:
        contents[f"moved/{number:02d}_{Path(path).name}"] = contents.pop(path)
    for index in range(20 * scale):
        contents[f"new/{number:02d}_{index:05d}.md"] = f"page {index} added in version {number}\n"


def _commit(root: Path, contents: dict[str, str], tag: str, *, objects: bool) -> None:
    cache = root / ".dvc" / "cache" / "files" / "md5"
    entries = []
    for path in sorted(contents):
        data = contents[path].encode()
        md5 = hashlib.md5(data).hexdigest()
        entries.append({"md5": md5, "relpath": path})
        if objects:
            _store(cache, md5, data)
    manifest = json.dumps(entries, sort_keys=True).encode()
    md5 = hashlib.md5(manifest).hexdigest() + ".dir"
    _store(cache, md5, manifest)
    size = sum(len(text) for text in contents.values())
    (root / "corpus.dvc").write_text(
        f"outs:\n- md5: {md5}\n  size: {size}\n  nfiles: {len(contents)}\n  hash: md5\n  path: corpus\n"
    )
    _git(root, "add", "--all")
    _git(root, "commit", "--quiet", "--message", f"Corpus {tag}")
    _git(root, "tag", tag)


def _store(cache: Path, md5: str, data: bytes) -> None:
    target = cache / md5[:2] / md5[2:]
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _git(root: Path, *arguments: str) -> None:
    who = {f"GIT_{role}_{key}": "bench@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    subprocess.run(["git", *arguments], cwd=root, check=True, env={**os.environ, **who}, capture_output=True)


def _timed(call: Callable[[], Any], *, rounds: int = ROUNDS) -> tuple[Any, float]:
    """Return the answer and the median seconds, after one call that pays for imports."""
    call()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        answer = call()
        seconds.append(time.perf_counter() - start)
    return answer, statistics.median(seconds)


def _report(what: str, seconds: float, bar: float) -> bool:
    print(f"  {what:44} {seconds * 1e3:8.1f} ms   bar {bar * 1e3:5.0f} ms   {'ok' if seconds < bar else 'MISSED'}")
    return seconds < bar


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
