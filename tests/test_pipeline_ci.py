"""The pipeline: its workflow is valid, careful and the same as `make ci`; and a broken prompt does not pass."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from core.config import PROJECT
from tests.test_architecture import list_core_imports

WORKFLOW = PROJECT / ".github" / "workflows" / "ci.yml"
REUSABLE = PROJECT / "deploy" / "github" / "prompt-gates.yml"
RELEASE = PROJECT / ".github" / "workflows" / "release.yml"
WORKFLOWS = [WORKFLOW, REUSABLE, RELEASE]
ORDER = ["lint", "test", "prompt-eval", "cost-check", "build", "deploy"]
BESIDE = "first-paint"
DOCS = "docs"
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
# The folders of core that the gate imports, but that cannot change what it says of a prompt.
NEUTRAL = {"access", "audit", "config", "corpus", "errors", "log", "safety"}


def load(path: Path) -> dict[Any, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def list_steps(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in load(path)["jobs"].items():
        for step in job["steps"]:
            yield name, step


SCHEMAS = dict.fromkeys(WORKFLOWS, "github-workflows") | {
    PROJECT / ".github" / "dependabot.yml": "dependabot",
    PROJECT / ".github" / "ISSUE_TEMPLATE" / "config.yml": "github-issue-config",
    PROJECT / ".github" / "ISSUE_TEMPLATE" / "bug.yml": "github-issue-forms",
    PROJECT / ".github" / "ISSUE_TEMPLATE" / "idea.yml": "github-issue-forms",
}


def test_every_file_for_github_is_held_to_a_schema() -> None:
    assert set((PROJECT / ".github").rglob("*.yml")) - set(SCHEMAS) == set()


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_the_files_for_github_follow_the_published_schemas(path: Path) -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    command = [program, "--builtin-schema", f"vendor.{SCHEMAS[path]}", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_commit_and_says_which_version_that_is(path: Path) -> None:
    used = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert len(used) >= 4
    pattern = r"(?:- )?uses: (?:actions|pypa)/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+"
    assert [line for line in used if not re.fullmatch(pattern, line)] == []


@pytest.mark.parametrize("path", [WORKFLOW, REUSABLE], ids=lambda path: path.name)
def test_only_the_job_that_comments_may_write_and_it_runs_nothing_of_the_checkout(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {}
    granted = {name: job["permissions"] for name, job in workflow["jobs"].items()}
    assert granted.pop("comment") == {"pull-requests": "write"}
    assert {str(rights) for rights in granted.values()} == {"{'contents': 'read'}"}
    assert not any("checkout" in str(step) or "make" in str(step) for job, step in list_steps(path) if job == "comment")


def test_of_a_release_each_right_is_held_by_one_job_that_runs_nothing_of_the_checkout() -> None:
    workflow = load(RELEASE)
    assert workflow["permissions"] == {}
    granted = {name: job["permissions"] for name, job in workflow["jobs"].items()}
    assert granted.pop("publish") == {"id-token": "write"}
    assert granted.pop("release") == {"contents": "write"}
    assert {str(rights) for rights in granted.values()} == {"{'contents': 'read'}"}
    assert workflow["jobs"]["publish"]["environment"] == "pypi"
    assert workflow["jobs"]["publish"]["needs"] == ["build", "audit", "sbom"]
    careful = [str(step) for job, step in list_steps(RELEASE) if job in ("publish", "release")]
    assert [step for step in careful if "checkout" in step or "make" in step] == []
    assert "password" not in RELEASE.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_step_puts_what_strangers_write_into_a_shell(path: Path) -> None:
    assert [step["run"] for _, step in list_steps(path) if "${{" in step.get("run", "")] == []
    checkouts = [step for _, step in list_steps(path) if "actions/checkout" in step.get("uses", "")]
    assert {step["with"]["persist-credentials"] for step in checkouts} == {False}


def test_each_job_runs_the_make_target_of_its_name() -> None:
    runs = {job: step["run"] for job, step in list_steps(WORKFLOW) if step.get("run", "").startswith("make ")}
    targets = {job: run.split()[-1] for job, run in runs.items() if job != "changes"}
    assert targets == {name: name for name in (*ORDER, BESIDE, DOCS, "fast", "coverage")}
    assert "make --no-print-directory changes" in runs["changes"]


def test_the_tests_run_on_every_python_that_the_wheels_name_and_on_debians() -> None:
    jobs = load(WORKFLOW)["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == PYTHONS
    assert jobs["fast"]["container"].startswith("debian:bookworm")
    for project in ("pyproject.toml", "deck/pyproject.toml"):
        named = re.findall(r"Python :: (3\.\d+)", (PROJECT / project).read_text(encoding="utf-8"))
        assert named == PYTHONS


def test_make_ci_runs_the_jobs_in_their_order() -> None:
    shown = subprocess.run(
        ["make", "--silent", "MAKE=echo target", "ci"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert re.findall(r"target (\S+)", shown) == ["lint", DOCS, "test", BESIDE, *ORDER[2:]]


def test_each_job_waits_for_the_one_before_it() -> None:
    jobs = load(WORKFLOW)["jobs"]
    for before, name in pairwise(ORDER):
        assert before in jobs[name]["needs"]
    assert jobs[BESIDE]["needs"] == "test"
    assert jobs[DOCS]["needs"] == "lint"
    assert {BESIDE, DOCS} <= set(jobs["build"]["needs"])


def test_a_skipped_prompt_eval_blocks_nothing_and_a_failed_one_everything() -> None:
    jobs = load(WORKFLOW)["jobs"]
    condition = "github.event_name == 'pull_request' && needs.changes.outputs.prompts == 'true'"
    assert jobs["prompt-eval"]["if"] == condition
    for name in ("cost-check", "build", "deploy"):
        assert "always() && !failure() && !cancelled()" in jobs[name]["if"]
    assert "refs/heads/main" in jobs["deploy"]["if"]
    assert jobs["deploy"]["environment"] == "production"


def test_what_decides_about_prompts_is_all_on_the_path_filter() -> None:
    """Every module that the gate imports is on the list, or is named here as one that cannot change its verdict."""
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    line = re.search(r"^PROMPT_PATHS = (.*)$", makefile, re.MULTILINE)
    assert line
    listed = line[1].split()
    assert [path for path in listed if not (PROJECT / path).exists()] == []
    wanted, seen = ["prompts/gatekeeper", "prompts/verdicts"], set()
    while wanted:
        name = wanted.pop()
        if name not in seen and name.split("/")[0] not in NEUTRAL:
            seen.add(name)
            wanted += list_core_imports(PROJECT / "core" / f"{name}.py")
    assert {f"core/{name.split('/')[0]}" for name in seen} - set(listed) == set()
    assert {"data/demo/prompts", "data/demo/cases", "data/demo/corpus", "data/gates.yaml"} <= set(listed)


@dataclass(frozen=True)
class Clone:
    """A copy of this checkout as it is now, in a git repository of its own; it borrows the checkout's environment."""

    folder: Path
    home: Path

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run make with an environment that is taken for up to date; what the copy's code does is the copy's own."""
        stamps = [part for stamp in (".venv/.run-installed", ".venv/.dev-installed") for part in ("-o", stamp)]
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "MAKE", "BASE"))
        }
        return subprocess.run(
            ["make", "--no-print-directory", *stamps, *arguments],
            cwd=self.folder, env={**environment, "QUARTERDECK_HOME": str(self.home)}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    def git(self, *arguments: str) -> None:
        identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=self.folder, check=True, capture_output=True)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text(encoding="utf-8")
        assert old in text
        (self.folder / name).write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    folder = tmp_path_factory.mktemp("clone") / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    made = Clone(folder, folder.parent / "home")
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("add", "--all")
    made.git("rm", "--quiet", "--cached", "--ignore-unmatch", ".venv")
    made.git("commit", "--quiet", "--message", "as it is")
    made.git("checkout", "--quiet", "-b", "feature")
    return made


@pytest.fixture
def warm(clone: Clone) -> Clone:
    """The clone as it was committed."""
    clone.git("checkout", "--quiet", "feature")
    clone.git("reset", "--quiet", "--hard", "main")
    return clone


V3 = "data/demo/prompts/qa/v3.md"
GROUNDING = ", using nothing but the context."


@pytest.mark.slow
def test_the_path_filter_tells_a_prompt_from_a_page(warm: Clone) -> None:
    warm.edit("README.md", "# ", "# About ")
    warm.git("commit", "--quiet", "--all", "--message", "words")
    assert warm.make("changes", "BASE=main").stdout == "prompts=false\n"
    warm.edit(V3, "at most two", "at most three")
    warm.git("commit", "--quiet", "--all", "--message", "prompt")
    assert warm.make("changes", "BASE=main").stdout == "prompts=true\n"
    assert "no merge base with nowhere" in warm.make("changes", "BASE=nowhere").stderr


@pytest.mark.slow
@pytest.mark.deep
def test_a_prompt_without_its_grounding_does_not_get_through_and_the_mended_one_does(warm: Clone) -> None:
    warm.edit(V3, GROUNDING, ".")
    warm.git("commit", "--quiet", "--all", "--message", "shorter")
    broken = warm.make("prompt-eval", "BASE=main")
    assert broken.returncode == 2, broken.stderr  # make's own code for a step that failed
    assert "prompt-eval qa-v3: FAILED" in broken.stdout
    assert "FAIL refusal accuracy: 0.80, needed 0.95" in broken.stdout
    assert "FAIL no regression" in broken.stdout
    summary = (warm.folder / "build/reports/prompt-eval.md").read_text(encoding="utf-8")
    assert "**`c19`** `How many vacation days do I have left this year?`" in summary
    assert "why: `it was answered, but the documents do not hold the answer`" in summary
    assert "why: `not supported by the retrieved context: " in summary
    suite = ElementTree.parse(warm.folder / "build/reports/prompt-eval.xml").find("testsuite")
    assert suite is not None
    assert int(suite.get("failures", "0")) >= 2

    warm.edit(V3, "in at most two sentences.", "in at most two sentences" + GROUNDING)
    mended = warm.make("prompt-eval", "BASE=main")
    assert (mended.returncode, "prompt-eval qa-v3: passed" in mended.stdout) == (0, True), mended.stderr


@pytest.mark.slow
@pytest.mark.deep
def test_an_expensive_model_does_not_get_through(warm: Clone) -> None:
    assert warm.make("cost-check").returncode == 0
    warm.edit("data/prices.yaml", "{input: 0.50, output: 2.00}", "{input: 50.00, output: 200.00}")
    dear = warm.make("cost-check")
    assert dear.returncode == 2, dear.stderr
    assert "cost-check qa-v3: FAILED" in dear.stdout
    assert re.search(r"FAIL average cost: \$0\.03\d+ a query at the price of extractive-offline", dear.stdout)
    assert re.search(r"^ +c\d\d: ", dear.stdout, re.MULTILINE)


@pytest.mark.slow
def test_a_deployment_needs_a_build_that_nobody_changed(warm: Clone) -> None:
    shutil.rmtree(warm.folder / "dist", ignore_errors=True)
    assert "run make build first" in warm.make("deploy").stderr
    (warm.folder / "dist").mkdir()
    wheel = warm.folder / "dist" / "quarterdeck-0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    subprocess.run("sha256sum *.whl > SHA256SUMS", shell=True, cwd=wheel.parent, check=True)
    assert "Dry run" in warm.make("deploy").stdout
    handed = warm.make("deploy", 'DEPLOY_COMMAND=echo "handed over $$1"')
    assert "handed over dist/quarterdeck-0-py3-none-any.whl" in handed.stdout, handed
    wheel.write_bytes(b"changed")
    assert warm.make("deploy").returncode == 2


@pytest.mark.slow
def test_a_release_needs_a_tag_that_is_the_version_and_a_section_of_the_changelog(warm: Clone) -> None:
    version = re.search(r'^version = "(.+)"$', (warm.folder / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert "is not the version in pyproject.toml" in warm.make("release-notes", "TAG=v99.0.0").stderr
    changes = warm.folder / "CHANGELOG.md"
    changes.write_text("# Changelog\n\n## Unreleased\n\n- new\n")
    assert "no section" in warm.make("release-notes", f"TAG=v{version[1]}").stderr
    changes.write_text(f"# Changelog\n\n## {version[1]} - 2026-02-03\n\n- new\n\n## 0.0.1 - 2025-01-02\n\n- old\n")
    assert warm.make("release-notes", f"TAG=v{version[1]}").returncode == 0
    assert (warm.folder / "build" / "release" / "notes.md").read_text().strip() == "- new"
