"""The OpenAPI document holds for whatever schemathesis sends to a server with rows, flags and tokens."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from core.flags.operations import create_flag
from quarterdeck.definitions import boolean_flag, canary_flag
from quarterdeck.store import Store
from tests.app.http.v1.conftest import ACT, fill, make_tokens
from tests.browser.conftest import serving


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.parametrize("token", ["operator", "answers"])
def test_the_document_holds_for_whatever_schemathesis_sends(tmp_path: Path, token: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    url = f"sqlite:///{home / 'quarterdeck.db'}"
    with closing(Store(url, create=True)) as store:
        create_flag(store, "use_hyde", boolean_flag(on=True), ACT)
        create_flag(store, "new_search", canary_flag(), ACT)
        secrets = make_tokens(store)
    fill(url)
    with serving(home, QUARTERDECK_OTLP_GRPC_PORT="off") as server:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"), "run", f"{server.address}/v1/openapi.json",
                "--checks", "all", "--max-examples", "5", "--seed", "10001",
                "--exclude-checks", "positive_data_acceptance",  # a name that fits its schema may not exist
                "--header", f"Authorization: Bearer {secrets[token]}",
            ],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=1_200,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "No issues found" in done.stdout
