"""The OpenAPI document holds for whatever schemathesis sends to a server over the demo, with tokens."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from schemathesis.core.warnings import SchemathesisWarning

from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from quarterdeck.store import Store
from tests.app.http.v1.conftest import ACT, make_tokens
from tests.browser.conftest import serving
from tests.conftest import Demo, copy_home

# What schemathesis warns of, and why it is right here. Every other warning fails the test, as every failed check does.
EXPECTED_WARNINGS = {
    "missing_test_data": "most names and ids that it makes up are of nothing in the demo, and 404 says so",
    "validation_mismatch": "rules between fields, or of a flag, are no JSON Schema, and 400 names the field",
}
EXPECTED_OF_TOKENS = {
    "operator": {},
    "one service": {"missing_auth": "what is of a whole environment is refused to a token of one service, with 403"},
}
OPT_IN = "low_valid_rate"  # says of an operation what the two above say


def write_config(folder: Path, token: str) -> Path:
    """Write the settings by which every warning fails that is not expected; return their path."""
    left = {*EXPECTED_WARNINGS, *EXPECTED_OF_TOKENS[token], OPT_IN}
    strict = sorted(str(each) for each in SchemathesisWarning if each not in left)
    path = folder / "schemathesis.toml"
    path.write_text(f"[warnings]\ndisplay = {json.dumps(strict)}\nfail-on = {json.dumps(strict)}\n", encoding="utf-8")
    return path


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
                Path(sys.executable).with_name("schemathesis"), "--config-file", str(write_config(tmp_path, token)),
                "run", f"{server.address}/v1/openapi.json",
                "--checks", "all", "--max-examples", "5", "--seed", "10001",
                "--request-timeout", "120", "--max-response-time", "120",  # seconds; no test asserts a time
                "--exclude-checks", "positive_data_acceptance",  # a name that fits its schema may not exist
                "--header", f"Authorization: Bearer {secrets[token]}",
            ],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=3_600,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "No issues found" in done.stdout, done.stdout[-20_000:]
