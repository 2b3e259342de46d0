"""What a service installs: `pip install .` into an empty environment brings the client and its few dependencies."""

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
DECK_ONLY = ("streamlit", "torch", "mlflow", "dvc", "sklearn", "pandas", "plotly", "lancedb", "sentence_transformers")

pytestmark = [pytest.mark.slow, pytest.mark.deep]

USE_THE_CLIENT = """
import sys
from quarterdeck import Quarterdeck
with Quarterdeck(sys.argv[1]) as deck:
    assert deck.log_retrieval("what is an mbuf", 0.78, session_id="s-17", prompt_version="v2")
    deck.flush()
    print(deck.is_enabled("use_reranker", "user-1"), deck.dropped)
import sqlite3
print(sqlite3.connect(sys.argv[1].removeprefix("sqlite:///")).execute("SELECT query, score FROM retrievals").fetchall())
"""

NAME_THE_USERS = """
from quarterdeck import Quarterdeck
shares = {"fractional": [["on", 20], ["off", 80]]}
flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off", "targeting": shares}
deck = Quarterdeck.from_definitions({"flags": {"new_prompt_v3": flag}})
print(*(user for user in range(1_000) if deck.is_enabled("new_prompt_v3", f"user-{user}")))
"""


# What a service that checks its types finds: a right use passes, each of these calls is wrong.
RIGHT_USE = """
from quarterdeck import Quarterdeck
with Quarterdeck("sqlite:///x.db") as deck:
    kept: str | None = deck.log_retrieval("what is an mbuf", 0.78, session_id="s-17")
    name: str = deck.variant("new_prompt_v3", "user-1", {"country": "NL"})
    on: bool = deck.is_enabled("use_reranker", "user-1", default=True)
    print(kept, name, on)
"""
WRONG_USES = (
    "deck.log_retrieval(1, 0.78)",
    'deck.log_retrieval("what is an mbuf", "high")',
    'deck.is_enabled("use_reranker").upper()',
    "deck.no_such_method()",
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment that holds an installed copy of what the wheel is made from."""
    folder = tmp_path_factory.mktemp("client")
    source = folder / "source"
    source.mkdir()
    shutil.copy(PROJECT / "pyproject.toml", source)
    for package in ("quarterdeck", "core", "app", "pages"):
        shutil.copytree(PROJECT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(folder / "env", with_pip=True)
    programs = folder / "env" / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(source))
    shutil.rmtree(source)
    return programs


def run(*command: str | Path, code: int = 0, **environ: str) -> str:
    """Run a program away from the checkout; return what it printed, both streams together."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "QUARTERDECK", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, cwd=Path(command[0]).parent, env=environment | environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.deep
def test_the_environment_holds_the_client_and_none_of_the_deck(client: Path) -> None:
    script = (
        f"from importlib.util import find_spec; print([n for n in {DECK_ONLY!r} + ('core', 'app') if find_spec(n)])"
    )
    assert run(client / "python", "-c", script).strip() == "[]"


@pytest.mark.deep
def test_the_distribution_lists_no_dependency_of_the_deck(client: Path) -> None:
    listed = run(client / "python", "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check").lower()
    names = {line.split("==")[0].replace("-", "_") for line in listed.splitlines()}
    assert {"quarterdeck", "sqlalchemy", "mmh3", "openfeature_sdk"} <= names
    assert names.isdisjoint({*DECK_ONLY, "scikit_learn", "mlflow_skinny", "numpy", "click"})


@pytest.mark.deep
def test_the_client_logs_and_reads_flags_on_a_new_store(client: Path, tmp_path: Path) -> None:
    said = run(
        client / "python", "-c", USE_THE_CLIENT, f"sqlite:///{tmp_path / 'deck.db'}", XDG_CACHE_HOME=str(tmp_path)
    )
    assert said.splitlines() == ["False 0", "[('what is an mbuf', 0.78)]"]


def test_the_console_command_says_in_one_line_that_only_the_client_is_here(client: Path) -> None:
    said = run(client / "quarterdeck", "drift", code=1).strip()
    assert said == "quarterdeck: this environment holds the client only; the commands come with quarterdeck-deck."


@pytest.mark.deep
def test_buckets_are_the_same_in_every_process_and_environment(client: Path) -> None:
    seeds = ("0", "1", "4242")
    drawn = {run(client / "python", "-c", NAME_THE_USERS, PYTHONHASHSEED=seed) for seed in seeds}
    drawn.add(run(sys.executable, "-c", NAME_THE_USERS, PYTHONHASHSEED="7"))
    assert len(drawn) == 1
    assert 150 <= len(drawn.pop().split()) <= 250


@pytest.mark.deep
def test_the_example_of_the_clients_own_readme_runs(client: Path, tmp_path: Path) -> None:
    text = (PROJECT / "quarterdeck" / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)
    example = example.replace("deck.db", str(tmp_path / "deck.db"))
    assert run(client / "python", "-c", example, XDG_CACHE_HOME=str(tmp_path)) == "off\n"
    assert (tmp_path / "deck.db").exists()


@pytest.mark.deep
def test_a_service_that_checks_its_types_is_told_of_every_wrong_call(client: Path, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(RIGHT_USE)
    wrong.write_text("\n".join(("from quarterdeck import Quarterdeck", 'deck = Quarterdeck("")', *WRONG_USES)))
    check = (sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), "--config-file=")
    found = [*check, "--python-executable", str(client / "python")]
    assert "Success: no issues found" in run(*found, str(right))
    told = run(*found, str(wrong), code=1)
    lines = {int(each) for each in re.findall(r"wrong\.py:(\d+): error", told)}
    assert lines == {3, 4, 5, 6}, told
