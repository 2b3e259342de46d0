"""The commands `flags …`, `schedules …` and `environments …`."""

import json
from pathlib import Path

import pytest

from core.audit.trail import AuditFilter, list_audit
from core.flags.operations import create_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag, rollout_pct
from quarterdeck.store import Store
from tests.app.commands.conftest import ACT
from tests.app.commands.running import Run, only_line


def test_flags_list_says_how_each_flag_stands(flags: Store, url: str, quarterdeck: Run) -> None:
    lines = quarterdeck("flags", "list", "--database", url).out.splitlines()
    assert [line.split()[:3] for line in lines] == [["new_prompt_v3", "on", "20%"], ["use_hyde", "off", "version"]]
    rows = quarterdeck("flags", "list", "--database", url, "--json").json
    assert [(row["key"], row["version"]) for row in rows] == [("new_prompt_v3", 1), ("use_hyde", 1)]


def test_flags_list_of_a_new_store_says_how_to_get_some(store: Store, url: str, quarterdeck: Run) -> None:
    assert "flags import" in quarterdeck("flags", "list", "--database", url).out
    assert quarterdeck("flags", "list", "--database", url, "--json").json == []


def test_flags_set_changes_the_flag_and_records_who_and_why(flags: Store, url: str, quarterdeck: Run) -> None:
    said = quarterdeck(
        "flags", "set", "new_prompt_v3", "--rollout", "50", "--reason", "no complaints", "--database", url
    )
    assert (said.code, said.out) == (0, "new_prompt_v3 is on 50% (version 2)\n")
    assert rollout_pct(get_flag(flags, "production", "new_prompt_v3").definition) == 50
    newest = list_audit(flags, limit=1)[0]
    assert (newest.actor, newest.action, newest.target, newest.reason) == (
        "tester", "flag.update", "new_prompt_v3", "no complaints",
    )  # fmt: skip
    turned_off = quarterdeck("flags", "set", "new_prompt_v3", "--off", "--reason", "stop", "--database", url, "--json")
    assert turned_off.json["definition"]["state"] == "DISABLED"
    quarterdeck("flags", "set", "use_hyde", "--on", "--reason", "go", "--database", url)
    assert get_flag(flags, "production", "use_hyde").definition["state"] == "ENABLED"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("no_such", "--on", "--reason", "why"), "no flag 'no_such'"),
        (("use_hyde", "--rollout", "101", "--reason", "why"), "101"),
        (("use_hyde", "--rollout", "-1", "--reason", "why"), "-1"),
        (("use_hyde", "--rollout", "nan", "--reason", "why"), "nan"),
        (("use_hyde", "--rollout", "inf", "--reason", "why"), "inf"),
        (("use_hyde", "--rollout", "0.00001", "--reason", "why"), "1e-05"),
        (("use_hyde", "--on", "--reason", "  "), "reason"),
        (("use_hyde", "--reason", "why"), "--rollout"),
    ],
)
def test_a_wrong_flag_change_is_one_line_and_changes_nothing(
    arguments: tuple[str, ...], named: str, flags: Store, url: str, quarterdeck: Run
) -> None:
    line = only_line(quarterdeck("flags", "set", *arguments, "--database", url), 2)
    assert named in line
    assert get_flag(flags, "production", "use_hyde").version == 1
    assert len(list_audit(flags)) == 2


def test_a_flag_change_on_and_off_the_scale_at_once_changes_nothing(flags: Store, url: str, quarterdeck: Run) -> None:
    only_line(
        quarterdeck("flags", "set", "use_hyde", "--rollout", "500", "--on", "--reason", "w", "--database", url), 2
    )
    assert get_flag(flags, "production", "use_hyde").version == 1


def test_an_export_imports_into_another_store_as_the_same_flags(
    flags: Store, url: str, quarterdeck: Run, tmp_path: Path
) -> None:
    exported = quarterdeck("flags", "export", "--database", url)
    file, other = tmp_path / "flags.json", f"sqlite:///{tmp_path / 'other.db'}"
    file.write_text(exported.out)
    said = quarterdeck("flags", "import", file, "--reason", "move", "--database", other, "--json")
    assert said.json == {"changed": ["new_prompt_v3", "use_hyde"]}
    assert quarterdeck("flags", "export", "--database", other).json == exported.json
    assert quarterdeck("flags", "import", file, "--database", other, "--json").json == {"changed": []}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("not json", "JSON"),
        ("[]", "flags"),
        ('{"flags": {}}', "flags"),
        (
            '{"flags": {"good": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on"}, "bad": 7}}',
            "bad",
        ),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_import_is_one_line_and_imports_nothing(
    content: str | None, named: str, store: Store, url: str, quarterdeck: Run, tmp_path: Path
) -> None:
    file = tmp_path / "flags.json"
    if content is not None:
        file.write_text(content)
    assert named in only_line(quarterdeck("flags", "import", file, "--database", url), 2)
    assert list_audit(store) == ()


def test_an_environment_has_its_own_flags_and_is_named_by_an_option(
    quarterdeck: Run, store: Store, url: str, tmp_path: Path
) -> None:
    on, there = ("--database", url), ("--environment", "staging")
    create_flag(store, "use_hyde", boolean_flag(on=True), ACT)
    assert quarterdeck("environments", "add", "staging", "--reason", "tried there", *on).code == 0
    assert quarterdeck("environments", "list", *on).out == "production\nstaging\n"
    assert quarterdeck("environments", "add", "staging", "--reason", "again", *on).code == 1
    assert (
        "no flag 'use_hyde' in staging"
        in quarterdeck("flags", "set", "use_hyde", "--off", "--reason", "x", *there, *on).err
    )
    exported = tmp_path / "flags.json"
    exported.write_text(quarterdeck("flags", "export", *on).out)
    assert quarterdeck("flags", "import", exported, *there, *on).code == 0
    assert quarterdeck("flags", "set", "use_hyde", "--off", "--reason", "x", *there, *on).code == 0
    states = {name: get_flag(store, name, "use_hyde").definition["state"] for name in ("production", "staging")}
    assert states == {"production": "ENABLED", "staging": "DISABLED"}
    bad = quarterdeck("flags", "list", "--environment", "../x", *on)
    assert (bad.code, bad.err.startswith("quarterdeck: environment: must be 1 to 64 letters")) == (2, True)


@pytest.mark.deep
def test_a_rollout_in_steps_is_planned_listed_paused_and_cancelled(quarterdeck: Run, url: str, store: Store) -> None:
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=0), ACT)
    where = ("--database", url)
    added = quarterdeck(
        "flags", "schedule", "add", "use_hyde", "--steps", "5,25,100", "--hold", "2d", "--reason", "why", *where
    )
    assert added.out.startswith("schedule 1 of use_hyde: 5% → 25% → 100%; 5% ")
    assert quarterdeck("flags", "schedule", "list", "--json", *where).json[0]["steps"][0]["hold_s"] == 172_800
    for verb, done in (("pause", "paused"), ("resume", "resumed"), ("cancel", "canceled")):
        told = quarterdeck("flags", "schedule", verb, "1", "--reason", "look first", *where)
        assert told.out.startswith(f"schedule 1 of use_hyde is {done} (audit entry "), told
    assert quarterdeck("flags", "schedule", "list", *where).out == "nothing is planned\n"
    assert [entry.action for entry in list_audit(store, AuditFilter(target="use_hyde"))] == [
        "schedule.cancel", "schedule.resume", "schedule.pause", "schedule.create", "flag.create",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give --steps P,P,…, --on or --off"),
        (("--steps", "5,many"), "steps: must be percentages"),
        (("--steps", "5", "--off"), "--off has no steps"),
        (("--steps", "5", "--hold", "a day"), "hold: must be a time like 30m"),
        (("--off", "--at", "tomorrow"), "at: give a time like"),
        (("--off", "--at", "2020-01-01"), "starts: must be a time from now on"),
    ],
)
def test_a_schedule_that_cannot_be_is_one_line_and_exit_code_2(
    options: tuple[str, ...], said: str, quarterdeck: Run, url: str, store: Store
) -> None:
    create_flag(store, "use_hyde", boolean_flag(on=True), ACT)
    told = quarterdeck("flags", "schedule", "add", "use_hyde", *options, "--reason", "why", "--database", url)
    assert (told.code, told.out) == (2, "")
    assert said in told.err


def test_a_flag_is_moved_to_the_other_bucketing_after_a_look_at_who_moves(
    flags: Store, url: str, quarterdeck: Run
) -> None:
    asked = quarterdeck("flags", "preview", "new_prompt_v3", "--bucketing", "string", "--database", url)
    first, *movers, last = asked.out.splitlines()
    assert "of 2,000 made-up users (none is known yet) would get another answer (3" in first
    assert len(movers) == 20
    assert all(" -> " in line for line in movers)
    assert last.endswith(" more")
    assert get_flag(flags, "production", "new_prompt_v3").version == 1
    told = quarterdeck("flags", "preview", "new_prompt_v3", "--rollout", "20", "--database", url, "--json").json
    assert (told["changed"], told["movers"]) == (0, [])
    nothing = quarterdeck("flags", "preview", "new_prompt_v3", "--database", url)
    assert (nothing.code, "--bucketing" in nothing.err) == (2, True)
    quarterdeck("flags", "set", "new_prompt_v3", "--bucketing", "string", "--reason", "Go fleet", "--database", url)
    assert get_flag(flags, "production", "new_prompt_v3").definition["metadata"]["hash_version"] == "fractional-v2"


def test_an_import_says_what_it_moved_or_left_out(quarterdeck: Run, store: Store, url: str, tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    flag = {"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on", "description": "d", "owner": "ann"}
    file.write_text(json.dumps({"flags": {"f": flag}}))
    said = quarterdeck("flags", "import", file, "--database", url)
    assert said.out.splitlines() == [
        "1 flag changed: f", "note: f: the field 'owner' was left out: flagd knows no such field",
    ]  # fmt: skip


def test_an_export_of_another_tool_is_taken_and_what_has_no_counterpart_gets_a_line(
    quarterdeck: Run, store: Store, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "growthbook.json"
    rules = {"good": [{"force": True, "coverage": 0.2}], "bad": [{"force": True, "namespace": ["n", 0, 1]}]}
    features = {key: {"defaultValue": False, "rules": each} for key, each in rules.items()}
    file.write_text(json.dumps({"features": features}))
    said = quarterdeck("flags", "import", file, "--environment", "staging", "--database", url)
    assert said.out.splitlines() == [
        "1 flag changed: good",
        "left out: bad: rule 1: it is in a namespace",
        "Rollouts keep their shares but not their users: GrowthBook uses another hash.",
    ]
    assert rollout_pct(get_flag(store, "staging", "good").definition) == 20
    missing = quarterdeck("flags", "import", tmp_path / "none.json", "--database", url)
    assert (missing.code, "none.json cannot be read" in missing.err) == (2, True)
