"""Gateway to all files of a version at once: checked against the remote, or packed into an archive."""

import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from core.corpus.manifests import CorpusFile
from core.corpus.storage import Storage, hash_file
from core.corpus.tracked import CloudCopy, Tracked
from core.corpus.versions import VerifyReport
from core.errors import SourceUnavailable

OnProgress = Callable[[int, int], None]


class Owner(NamedTuple):
    """Who tracks a content, as which files, and where a remote that keeps versions has it."""

    out: Tracked
    files: list[CorpusFile]
    copy: CloudCopy | None


def verify_contents(
    revision: str, owners: Mapping[str, Owner], storage: Storage, *, remote: str | None, notes: tuple[str, ...],
    on_progress: OnProgress | None,
) -> VerifyReport:  # fmt: skip
    """Fetch every content from its remote to a temporary place and check it against its hash; see `Corpus`."""
    remotes = {name: storage.remote(remote or name) for name in {out.remote for out, _, _ in owners.values()}}
    damaged: list[CorpusFile] = []
    missing: list[CorpusFile] = []
    size_bytes = 0
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="quarterdeck-verify-"))
        for source in remotes.values():
            stack.callback(source.close)
        target = Path(folder) / "object"
        for done, (md5, (out, files, copy)) in enumerate(owners.items(), start=1):
            try:
                remotes[out.remote].fetch(md5, target, copy=copy)
            except FileNotFoundError:
                missing += files
            else:
                size_bytes += target.stat().st_size
                damaged += files if hash_file(target, legacy=out.legacy) != md5 else ()
                target.unlink()
            if on_progress:
                on_progress(done, len(owners))
    names = ", ".join(sorted(found.name for found in remotes.values()))
    total = sum(len(files) for _, files, _ in owners.values())
    return VerifyReport(revision, names, total, size_bytes, tuple(damaged), tuple(missing), notes)


def write_archive(
    target: Path,
    files: Iterable[CorpusFile],
    read: Callable[[CorpusFile], bytes],
    *,
    on_progress: OnProgress | None = None,
) -> Path:
    """Write files into the zip file `target` and return it; leaves nothing behind on failure.

    Raises what `read` raises, and SourceUnavailable when `target` cannot be written.
    """
    partial = target.with_name(target.name + ".part")
    every = list(files)
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as bundle:
            for done, file in enumerate(every, start=1):
                bundle.writestr(file.path, read(file))
                if on_progress:
                    on_progress(done, len(every))
        partial.replace(target)
    except OSError as error:
        raise SourceUnavailable(f"{target} cannot be written: {error.strerror}. Choose another folder") from error
    finally:
        partial.unlink(missing_ok=True)
    return target
