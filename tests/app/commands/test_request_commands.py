"""The commands `requests …`: who somebody is comes from their token."""

import json
from pathlib import Path

import pytest

from core.access.credentials import issue_token
from core.access.roles import grant_role
from core.access.scopes import TokenScope
from core.approvals.operations import set_policy
from core.audit.acts import Act
from core.audit.gate import Origin, Policy
from core.audit.permissions import Grant, Role
from core.errors import ApprovalNeeded
from core.flags.operations import change_rollout, create_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag, rollout_pct
from quarterdeck.store import Store
from tests.app.commands.running import Run, only_line

ADA, BOB = (Act(name, "because", origin=Origin.PERSON) for name in ("ada", "bob"))


def test_a_request_is_shown_approved_by_a_token_and_applied(
    quarterdeck: Run, store: Store, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=10), ADA)
    for name in ("ada", "bob"):
        grant_role(store, Grant(name, Role.ADMIN), Act("setup", "a test"))
    own, other = (issue_token(store, by.actor, [TokenScope.ADMIN], by)[0] for by in (ADA, BOB))
    assert "production need no second person" in quarterdeck("requests", "list", "--database", url).out
    said = quarterdeck("requests", "require", "--reason", "policy 4", "--database", url)
    assert "acts under one name" in only_line(said, 2)
    set_policy(store, Policy(required=True), ADA, has_sign_in=True)
    with pytest.raises(ApprovalNeeded):
        change_rollout(store, get_flag(store, "production", "use_hyde"), 50, ADA)
    refused = quarterdeck(
        "flags", "set", "use_hyde", "--rollout", "20", "--reason", "at the machine", "--database", url
    )
    assert "only who signed in can ask for it" in only_line(refused, 1)
    assert "waiting  flag.update use_hyde, asked by ada" in quarterdeck("requests", "list", "--database", url).out
    assert "+" in quarterdeck("requests", "show", "1", "--database", url).out
    approve = ("requests", "approve", "1", "--version", "1", "--reason", "looked at it", "--database", url)
    assert "say who you are" in only_line(quarterdeck(*approve), 2)
    monkeypatch.setenv("QUARTERDECK_TOKEN", own)
    assert "is your own" in only_line(quarterdeck(*approve), 1)
    (folder / "flag.json").write_text(json.dumps(boolean_flag(on=True, rollout_pct=50, description="amended")))
    amend = (
        "requests",
        "amend",
        "1",
        "--definition",
        str(folder / "flag.json"),
        "--reason",
        "say why",
        "--database",
        url,
    )
    assert quarterdeck(*amend).out.startswith("request 1 is amended and waits again (audit entry ")
    monkeypatch.setenv("QUARTERDECK_TOKEN", other)
    assert "request 1 has version 2; read it again" in only_line(quarterdeck(*approve), 1)  # bob read what ada asked
    assert "version 2" in quarterdeck("requests", "show", "1", "--database", url).out
    approve = ("requests", "approve", "1", "--version", "2", "--reason", "looked at it", "--database", url)
    assert quarterdeck(*approve).out.startswith("request 1 is approved and applied (audit entry ")
    assert rollout_pct(get_flag(store, "production", "use_hyde").definition) == 50
    assert "is applied" in only_line(quarterdeck("requests", "reject", "1", "--reason", "late", "--database", url), 1)
