"""Gateway to the demo's git + DVC repository, written with the real programs."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import yaml

from core.config import Config
from core.errors import SourceUnavailable

_DVC_YAML = {
    "stages": {"ingest": {"cmd": "quarterdeck index build corpus index", "deps": ["corpus"], "outs": ["index"]}}
}


class DemoRepository:
    """The demo's git + DVC repository, written with the real programs."""

    def __init__(self, folder: Path, config: Config, say: Callable[[str], None]) -> None:
        self.folder = folder
        self._say = say
        self._environment = os.environ | {
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(config.home / "dvc-site-cache"),
            "QUARTERDECK_HOME": str(config.home),
            "QUARTERDECK_DATABASE_URL": config.database_url,
            "QUARTERDECK_EMBEDDING_MODEL": config.embedding_model,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    def create(self) -> None:
        """Create an empty repository with a local DVC remote and the pipeline's definition."""
        self.folder.mkdir(parents=True)
        self._run("git", "init", "--quiet", "--initial-branch=main")
        self._run("git", "config", "user.name", "Demo Writer")
        self._run("git", "config", "user.email", "demo@example.org")
        self._dvc("init", "--quiet")
        self._dvc("config", "core.analytics", "false")
        self._dvc("config", "core.autostage", "true")
        self._dvc("remote", "add", "--default", "local", "../dvc-remote")
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump(_DVC_YAML, sort_keys=False))

    def commit_version(self, tag: str, message: str, when: datetime) -> None:
        """Track the current corpus, run the pipeline, commit, tag and push."""
        self._dvc("add", "--quiet", "corpus")
        self._dvc("repro", "--quiet")
        self._run("git", "add", "--all")
        stamp = {"GIT_AUTHOR_DATE": when.isoformat(), "GIT_COMMITTER_DATE": when.isoformat()}
        self._run("git", "commit", "--quiet", "--message", message, extra=stamp)
        self._run("git", "tag", "--annotate", tag, "--message", message, extra=stamp)
        self._dvc("push", "--quiet")

    def _dvc(self, *arguments: str) -> None:
        self._run(sys.executable, "-m", "dvc", *arguments)

    def _run(self, *command: str, extra: Mapping[str, str] | None = None) -> None:
        environment = {**self._environment, **(extra or {})}
        try:
            done = subprocess.run(
                command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise SourceUnavailable(f"`{command[0]}` cannot be run: {error.strerror}; is it installed?") from error
        if done.returncode:
            shown = " ".join(command).replace(sys.executable, "python")
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise SourceUnavailable(f"`{shown}` failed with exit code {done.returncode}: {last[0]}")
