"""Builds small real git + DVC repositories for tests: every step is a command that a user would type."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class DvcRepo:
    """A repository at `root` whose default remote is the folder `storage`. Each commit is a minute after the last."""

    root: Path
    storage: Path
    site_cache: Path
    _clock: list[int] = field(default_factory=lambda: [1_760_000_000])

    @classmethod
    def create(cls, folder: Path) -> "DvcRepo":
        repo = cls(folder / "repo", folder / "storage", folder / "site-cache")
        repo.root.mkdir(parents=True)
        repo.storage.mkdir()
        repo.git("init", "--quiet", "--initial-branch=main")
        repo.dvc("init", "--quiet")
        repo.dvc("remote", "add", "--quiet", "-d", "origin", str(repo.storage))
        return repo

    def copy(self, folder: Path) -> "DvcRepo":
        """Return an independent copy, storage included, for a test that breaks something."""
        other = DvcRepo(folder / "repo", folder / "storage", folder / "site-cache", list(self._clock))
        shutil.copytree(self.root, other.root, symlinks=True)
        shutil.copytree(self.storage, other.storage)
        other.set_remote(str(other.storage))
        return other

    def set_remote(self, url: str) -> None:
        """Point the default remote elsewhere, as `dvc remote modify --local` does."""
        (self.root / ".dvc" / "config.local").write_text(f"['remote \"origin\"']\n    url = {url}\n")

    @property
    def cache(self) -> Path:
        return self.root / ".dvc" / "cache" / "files" / "md5"

    def git(self, *arguments: str) -> str:
        return self._run("git", *arguments)

    def dvc(self, *arguments: str) -> str:
        return self._run(sys.executable, "-m", "dvc", *arguments)

    def write(self, files: dict[str, str | bytes | None]) -> None:
        """Write files below the root; None removes one."""
        for name, content in files.items():
            path = self.root / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def commit(self, message: str, *, track: tuple[str, ...] = (), tag: str | None = None) -> str:
        """Add the given data to DVC, everything else to git, commit, tag, and return the commit's hash."""
        if track:
            self.dvc("add", "--quiet", *track)
        self._clock[0] += 60
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        if tag:
            self.git("tag", tag)
        return self.git("rev-parse", "HEAD").strip()

    def push(self) -> None:
        self.dvc("push", "--quiet", "--all-commits")

    def _run(self, *command: str) -> str:
        when = f"{self._clock[0]} +0000"
        who = {"NAME": "Ada Lovelace", "EMAIL": "ada@example.org", "DATE": when}
        environment = {
            **os.environ,
            **{f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()},
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.site_cache),
        }
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout
