"""Repositories as hypothesis draws them: what DVC may write into git, its cache and its lists, without running DVC."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pygit2
import yaml
from hypothesis import strategies as st

Files = dict[str, bytes]
NAMES = st.sampled_from(["a.md", "b.md", "c.txt", "é.md", "with space.md", "in/d.md", "in/deep/e.md", "1_000", "yes"])
CONTENTS = st.sampled_from([b"", b"alpha\n", b"alpha\r\nbeta\r\n", b"\x89PNG\r\n\x00\xff", "größe\n".encode()])
FILES = st.dictionaries(NAMES, CONTENTS, min_size=1, max_size=4)
KINDS = st.sampled_from(
    [
        "file",
        "folder",
        "old file",
        "old folder",
        "cloud file",
        "cloud folder",
        "import",
        "not downloaded",
        "pair",
        "wdir",
    ]
)


@dataclass(frozen=True)
class Drawn:
    """One state of a project: what is added with which `.dvc` file, its stages, and what `.dvcignore` says."""

    added: dict[str, tuple[str, Files]]
    stages: dict[str, Files]
    style: str
    ignored: str
    has_inner: bool
    is_dvc_yaml_in_folder: bool


STATES = st.builds(
    Drawn,
    added=st.dictionaries(
        st.sampled_from(["docs", "faq", "data/raw", "data/more", "old"]), st.tuples(KINDS, FILES), max_size=4
    ),
    stages=st.dictionaries(st.sampled_from(["one", "two"]), FILES, max_size=2),
    style=st.sampled_from(["plain", "foreach", "vars", "wdir", "uncached"]),
    ignored=st.sampled_from(["", "*.tmp", "data/", "faq.dvc", "data/more.dvc", "*.dvc\n!docs.dvc", "/old.dvc"]),
    has_inner=st.booleans(),
    is_dvc_yaml_in_folder=st.booleans(),
)


@dataclass
class Generated:
    """A git repository with a DVC project at `prefix`, whose commits are drawn states."""

    folder: Path
    prefix: str
    commits: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.folder / "repo" / self.prefix

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def commit(self, drawn: Drawn) -> str:
        """Write a state in place of the last one, and commit it."""
        git = pygit2.init_repository(str(self.folder / "repo"))
        git.index.clear()
        for path, content in self._write(drawn).items():
            blob = git.create_blob(content)
            full = f"{self.prefix}/{path}" if self.prefix else path
            git.index.add(pygit2.IndexEntry(full, blob, pygit2.enums.FileMode.BLOB))
        tree = git.index.write_tree()
        git.index.write()
        who = pygit2.Signature("Ada", "ada@example.org", 1_760_000_000 + 60 * len(self.commits), 0)
        parents = self.commits[-1:]
        self.commits.append(str(git.create_commit("refs/heads/main", who, who, "state", tree, parents)))
        git.set_head("refs/heads/main")
        git.reset(self.commits[-1], pygit2.enums.ResetMode.HARD)
        (self.root / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {self.cache}\n")
        return self.commits[-1]

    def _write(self, drawn: Drawn) -> Files:
        files: Files = {".dvc/config": b"", ".dvcignore": f"# patterns\n{drawn.ignored}\n".encode()}
        for path, (kind, content) in drawn.added.items():
            files[f"{path}.dvc"] = _yaml(self._dvc_file(path.rpartition("/")[2], kind, content))
        if drawn.has_inner:
            files["inner/.dvc/config"] = b""
            files["inner/docs.dvc"] = _yaml({"outs": [self._folder("docs", {"a.md": b"inner\n"})]})
        if drawn.stages:
            below = "pipe/" if drawn.is_dvc_yaml_in_folder else ""
            files |= {f"{below}{name}": content for name, content in self._pipeline(drawn).items()}
        return files

    def _dvc_file(self, name: str, kind: str, files: Files) -> dict[str, Any]:
        content = next(iter(files.values()))
        if kind == "pair":
            return {"outs": [self._file(f"{name}-1", content), self._folder(f"{name}-2", files)]}
        if kind == "wdir":
            return {"wdir": "elsewhere", "outs": [self._folder(name, files)]}
        if kind == "cloud folder":
            return {"outs": [{"path": name, "hash": "md5", "files": [
                {"relpath": path, "md5": self._store(text), "size": len(text), "cloud": {"s3": {"version_id": "v"}}}
                for path, text in files.items()
            ]}]}  # fmt: skip
        if kind == "cloud file":
            return {"outs": [self._file(name, content) | {"cloud": {"s3": {"version_id": "v", "etag": "e1234"}}}]}
        source = {"path": "docs", "repo": {"url": "https://git.invalid/lib", "rev_lock": "0" * 40}}
        if kind == "import":
            return {"frozen": True, "deps": [source], "outs": [self._folder(name, files)]}
        if kind == "not downloaded":
            return {"md5": "0" * 32, "frozen": True, "deps": [source], "outs": [{"hash": "md5", "path": name}]}
        make = self._folder if kind.endswith("folder") else self._file
        return {"outs": [make(name, files if kind.endswith("folder") else content, is_old=kind.startswith("old"))]}

    def _pipeline(self, drawn: Drawn) -> Files:
        stages, lock, files = {}, {}, {}
        wdir = {"wdir": "work"} if drawn.style == "wdir" else {}
        for name, content in drawn.stages.items():
            out: Any = f"out-{name}"
            locked = self._folder(f"out-{name}", content)
            if drawn.style == "foreach":
                stages[name] = {"foreach": ["x", "y"], "do": {"cmd": "echo", "outs": [f"{out}-${{item}}"]}}
                lock |= {
                    f"{name}@{item}": {"cmd": "echo", "outs": [locked | {"path": f"{out}-{item}"}]} for item in "xy"
                }
                continue
            if drawn.style == "vars":
                files["params.yaml"] = b"place: chosen\n"
                out, locked = f"${{place}}-{name}", locked | {"path": f"chosen-{name}"}
            git_keeps = [{"kept.json": {"cache": False}}] if drawn.style == "uncached" and name == "one" else []
            stages[name] = {"cmd": "echo", **wdir, "outs": [out], "metrics": git_keeps}
            kept = self._file("kept.json", b"{}") if git_keeps else None
            files |= {"kept.json": b"{}"} if git_keeps else {}
            lock[name] = {"cmd": "echo", "outs": [locked, *([kept] if kept else [])]}
        lock["gone"] = {"cmd": "echo", "outs": [self._folder("out-gone", {"a.md": b"no stage any more\n"})]}
        return files | {"dvc.yaml": _yaml({"stages": stages}), "dvc.lock": _yaml({"schema": "2.0", "stages": lock})}

    def _file(self, name: str, content: bytes, *, is_old: bool = False) -> dict[str, Any]:
        out = {"path": name, "md5": self._store(content, is_old=is_old), "size": len(content)}
        return out if is_old else out | {"hash": "md5"}

    def _folder(self, name: str, files: Files, *, is_old: bool = False) -> dict[str, Any]:
        entries = [
            {"md5": self._store(content, is_old=is_old), "relpath": path} for path, content in sorted(files.items())
        ]
        md5 = self._store(json.dumps(entries, sort_keys=True).encode(), is_old=is_old, suffix=".dir")
        out = {"path": name, "md5": md5, "size": sum(map(len, files.values())), "nfiles": len(files)}
        return out if is_old else out | {"hash": "md5"}

    def _store(self, content: bytes, *, is_old: bool = False, suffix: str = "") -> str:
        hashed = content
        if is_old and b"\x00" not in content:
            hashed = content.replace(b"\r\n", b"\n")
        md5 = hashlib.md5(hashed, usedforsecurity=False).hexdigest() + suffix
        target = (self.cache if is_old else self.cache / "files" / "md5") / md5[:2] / md5[2:]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return md5


def _yaml(value: Any) -> bytes:
    """Write YAML as DVC does, which reads version 1.2: a name such as 1_000 or yes stays text there."""
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False).encode()
