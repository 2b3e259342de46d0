"""The container files: valid by their schema, without rights, complete. Docker itself is not needed and not tested."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml

from app.http.server import STOP_WITHIN_S
from core.config import PROJECT
from core.deployments.colors import Color
from core.deployments.health import ask
from core.deployments.services import get_service
from core.errors import SourceUnavailable

DEPLOY = PROJECT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = [DEPLOY / "compose.yaml", DEPLOY / "color.yaml"]


def load(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def copied() -> list[str]:
    """What the Dockerfile takes out of the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()]


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_the_compose_files_follow_the_published_schema(path: Path) -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    command = [program, "--builtin-schema", "vendor.compose-spec", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_is_built_in_one_stage_and_runs_in_another_as_nobody() -> None:
    stages = re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE)
    assert stages == ["build", "run"]
    run = DOCKERFILE.partition("AS run")[2]
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10001"]
    assert "pip install" not in run
    assert run.index("USER 10001") < run.index("ENTRYPOINT")


def test_the_image_gets_the_pinned_torch_from_the_index_that_is_named_before_everything_else() -> None:
    (pinned,) = re.findall(r"^torch==\S+$", (PROJECT / "requirements.txt").read_text(), re.MULTILINE)
    torch, others = (
        DOCKERFILE.index(f'pip install ${{TORCH_INDEX:+--index-url "$TORCH_INDEX"}} {pinned}'),
        DOCKERFILE.index("-r /tmp/requirements.txt"),
    )
    assert torch < others
    assert re.search(r"^ARG TORCH_INDEX=$", DOCKERFILE, re.MULTILINE), "no address of an index is written down here"
    assert pinned in (PROJECT / "Makefile").read_text()


def test_the_image_names_its_base_by_a_version_and_no_registry_or_index_by_its_address() -> None:
    bases = re.findall(r"^FROM (\S+) AS", DOCKERFILE, re.MULTILINE)
    assert len(set(bases)) == 1, "both stages need the same Python"
    assert re.fullmatch(r"python:\$\{PYTHON\}-slim-[a-z]+", bases[0])
    assert re.search(r"^ARG PYTHON=3\.\d+$", DOCKERFILE, re.MULTILINE)
    own = ("127.0.0.1", "localhost", "mlflow")
    for path in (DEPLOY / "Dockerfile", *COMPOSE):
        hosts = re.findall(r"https?://([\w.-]+)", path.read_text(encoding="utf-8"))
        assert [host for host in hosts if host not in own] == [], path.name
    assert "ADD " not in DOCKERFILE
    assert "PASSWORD" not in DOCKERFILE


def test_a_container_that_is_told_to_stop_hands_the_signal_to_the_server_and_waits_for_it() -> None:
    assert re.search(r"^STOPSIGNAL SIGTERM$", DOCKERFILE, re.MULTILINE)
    for instruction in ("ENTRYPOINT", "CMD"):
        assert re.search(rf'^{instruction} \["', DOCKERFILE, re.MULTILINE), "a shell in between keeps the signal"
    for path in COMPOSE:
        grace = load(path)["services"]["deck"]["stop_grace_period"]
        assert int(grace.removesuffix("s")) > STOP_WITHIN_S


def test_compose_runs_the_deck_behind_nginx_with_postgresql_and_an_mlflow_server() -> None:
    services = load(DEPLOY / "compose.yaml")["services"]
    assert set(services) == {"deck", "postgres", "mlflow", "nginx"}
    deck = services["deck"]
    assert deck["environment"]["QUARTERDECK_DATABASE_URL"].endswith("@postgres/quarterdeck")
    assert deck["environment"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert deck["read_only"] is True
    assert deck["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["mlflow"]["entrypoint"] == ["mlflow", "server"]
    assert [name for name in services if "ports" in services[name]] == ["nginx"], "everybody comes through nginx"
    assert "server deck:8501" in (DEPLOY / "nginx" / "upstream" / "deck.conf").read_text()
    assert "HEALTHCHECK" in DOCKERFILE
    assert [name for name in ("postgres", "mlflow") if "healthcheck" not in services[name]] == []


def test_no_file_of_the_image_is_kept_out_by_dockerignore() -> None:
    let_in = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied()
    assert [path for path in copied() if not (PROJECT / path).exists()] == []
    assert set(copied()) == let_in


def test_no_service_has_more_rights_than_it_needs_and_nothing_listens_to_the_world() -> None:
    for path in COMPOSE:
        for name, service in load(path)["services"].items():
            published = [str(port) for port in service.get("ports", ())]
            assert [port for port in published if not port.startswith("127.0.0.1:")] == [], name
            if service["image"].startswith("quarterdeck:"):
                assert service["cap_drop"] == ["ALL"]
                assert service["security_opt"] == ["no-new-privileges:true"]
            else:
                assert re.fullmatch(r"[a-z]+:\d+(\.\d+)?-alpine", service["image"])


def test_no_password_is_written_down() -> None:
    for path in COMPOSE:
        text = path.read_text()
        given = [*re.findall(r"PASSWORD: (\S+)", text), *re.findall(r"://\w+:(\S+?)@", text.replace(" ", "_"))]
        assert given
        assert [value for value in given if not value.startswith("${POSTGRES_PASSWORD")] == []


def test_nginx_in_its_container_gets_every_value_of_the_template_and_accepts_the_result(tmp_path: Path) -> None:
    nginx = load(DEPLOY / "compose.yaml")["services"]["nginx"]
    values = {name: value.replace("$$", "$") for name, value in nginx["environment"].items()}
    text = (DEPLOY / "nginx" / "site.conf.template").read_text()
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set(values)
    upstream = (DEPLOY / "nginx" / "upstream" / "deck.conf").read_text()
    assert f"map $host {values['MARK']} " in upstream
    # The name of the container cannot be found here; nginx reads the rest as it would there.
    (tmp_path / "deck.conf").write_text(upstream.replace("server deck:", "server 127.0.0.1:"))
    site = Template(text).safe_substitute({**values, "UPSTREAM": str(tmp_path / "deck.conf")})
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{site}\n}}\n")
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "these tests need Debian's nginx: apt-get install nginx"
    done = subprocess.run([program, "-t", "-c", tmp_path / "nginx.conf"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_two_colors_of_the_deck_fit_the_compose_files() -> None:
    service, color = get_service(DEPLOY / "deployments-compose.yaml", "deck"), load(DEPLOY / "color.yaml")
    (alias,) = color["services"]["deck"]["networks"]["default"]["aliases"]
    for name in Color:
        assert service.find_upstream(name) == f"{alias.replace('${COLOR:?}', name)}:8501"
    base = load(DEPLOY / "compose.yaml")
    assert color["networks"]["default"]["name"] == base["networks"]["default"]["name"]
    assert color["volumes"]["deck"]["name"] == base["volumes"]["deck"]["name"]
    assert service.address.endswith(":8080")


@pytest.mark.deep
@pytest.mark.slow
def test_what_the_image_holds_is_enough_to_serve(tmp_path: Path) -> None:
    """The files that the Dockerfile copies, alone in a folder, with the environment of this test run."""
    image, home = tmp_path / "image", tmp_path / "home"
    for source in copied():
        target = image / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if (PROJECT / source).is_dir():
            shutil.copytree(PROJECT / source, target, ignore=shutil.ignore_patterns("var", "__pycache__"))
        else:
            shutil.copy(PROJECT / source, target)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(image), "HOME": str(home), "QUARTERDECK_HOME": str(home)}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", "quarterdeck", "serve", "--port", str(port)],
            cwd=image, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            for _ in range(1_200):
                assert server.poll() is None, (tmp_path / "log").read_text()
                try:
                    assert ask(f"http://127.0.0.1:{port}/healthz")
                    break
                except SourceUnavailable:
                    time.sleep(0.1)
            assert "Streamlit" in ask(f"http://127.0.0.1:{port}/")
        finally:
            server.terminate()
            server.wait(60)
    found = subprocess.run(
        [sys.executable, "-P", "-c", "import app.cli, core.demo, pages; print(app.cli.__file__)"],
        cwd=image, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout.startswith(str(image)), found.stdout + found.stderr
