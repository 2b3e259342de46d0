"""The OpenAPI document holds for whatever schemathesis sends to a server over the demo, with tokens."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from quarterdeck.store import Store
from tests.app.http.v1.conftest import ACT, make_tokens
from tests.browser.conftest import serving
from tests.conftest import Demo, copy_home


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.parametrize("token", ["operator", "one service"])
def test_the_document_holds_for_whatever_schemathesis_sends(demo: Demo, tmp_path: Path, token: str) -> None:
    home = tmp_path / "home"
    copy_home(demo.config.home, home)
    with closing(Store(f"sqlite:///{home / 'quarterdeck.db'}")) as store:
        secrets = make_tokens(store)
        own = [TokenScope.READ, TokenScope.QUESTIONS, TokenScope.CHANGE]
        secrets["one service"] = issue_token(store, "one service", own, ACT, services=("docs-chat",))[0]
    with serving(home, QUARTERDECK_OTLP_GRPC_PORT="off") as server:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"), "run", f"{server.address}/v1/openapi.json",
                "--checks", "all", "--max-examples", "5", "--seed", "10001",
                "--request-timeout", "120", "--max-response-time", "120",  # seconds; no test asserts a time
                "--exclude-checks", "positive_data_acceptance",  # a name that fits its schema may not exist
                "--header", f"Authorization: Bearer {secrets[token]}",
            ],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=3_600,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "No issues found" in done.stdout
