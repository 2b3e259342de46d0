"""Layers, whose experiments share no user, and the holdout, whose users no experiment and no canary touches."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field

from app.http.backends import get_store
from app.http.v1.callers import From
from app.http.v1.changes import ChangeAnswer, Make
from app.http.v1.models import Answered, Environment, Limit, Page, Position, Reasoned, cut_page, lead_to
from app.http.v1.reads import load_holdout
from app.http.v1.routing import make_router
from core.audit.acts import Act
from core.errors import Conflict, NotFound
from core.flags.layer_store import get_holdout, get_layer
from core.flags.layers import MOST_HELD_OUT_PCT, NAME_PATTERN, Holdout, Layer
from core.flags.store import get_flag
from core.rollouts.holdout import HELD, REST, HoldoutReport
from core.rollouts.layers import (
    LayerReport,
    create_layer,
    end_holdout,
    list_held_out,
    remove_layer,
    report_layers,
    start_holdout,
    take_out,
)

router = make_router("rollouts")
Name = Annotated[
    str, Field(pattern=NAME_PATTERN, description="1 to 63 of a-z, 0-9, dot, dash and underscore.", examples=["search"])
]
HashVersion = Annotated[Literal["fractional-v2", "fractional-v3"], Field(description="How its flags hash users.")]


class LayerUseAnswer(Answered):
    """A flag with users of a layer: its share of all users, 0 to 1, and its running experiment."""

    flag: str
    share: float
    experiment: str


class LayerAnswer(Answered):
    """A layer: which flags have its users, and the share that is free."""

    name: str
    description: str
    hash_version: str
    version: int = Field(description="Send it to remove the layer: 409 if it was changed since.")
    free: float
    uses: tuple[LayerUseAnswer, ...]


class HoldoutAnswer(Answered):
    """The holdout that runs, null if none does, and the flags that keep out of one."""

    name: str | None
    share_pct: float | None
    hash_version: str | None
    since: datetime | None
    version: int | None = Field(description="Send it to end the holdout: 409 if it was changed since.")
    flags: tuple[str, ...]


class HoldoutReportAnswer(Answered):
    """The rest of the users against those held out, in one metric, with an interval that holds at any time."""

    name: str
    share_pct: float
    since: datetime | None
    metric: str
    sentence: str
    held_out_users: int
    other_users: int
    mismatch_p: float | None = Field(description="Always-valid p-value of the split; below 0.001 it is wrong.")
    held_out: float | None = Field(description="The figure of those held out; null while there is none.")
    others: float | None
    harm: float | None = Field(description="How much worse the rest is; negative if better.")
    least_harm: float | None
    most_harm: float | None


class LayerCreation(Reasoned):
    """A new layer."""

    name: Name
    description: str = Field("", max_length=300)
    hash_version: HashVersion = "fractional-v3"
    environment: str | None = Field(None, max_length=64)


class LayerRemoval(Reasoned):
    """Removes a layer that no flag has users of."""

    name: Name
    version: int = Field(ge=1)
    environment: str | None = Field(None, max_length=64)


class LayerExit(Reasoned):
    """Gives a flag back to all users, and its part of the layer to other experiments."""

    flag: str = Field(min_length=1, max_length=300)
    version: int = Field(ge=1, description="The flag's version.")
    confirm: str = Field("", max_length=300, description="The flag's key, if most of production would change.")
    environment: str | None = Field(None, max_length=64)


class HoldoutStart(Reasoned):
    """Holds a share of the users out of every experiment and canary."""

    name: Name
    share_pct: float = Field(ge=0.001, le=MOST_HELD_OUT_PCT, examples=[5.0])
    hash_version: HashVersion = "fractional-v3"
    environment: str | None = Field(None, max_length=64)


class HoldoutEnd(Reasoned):
    """Lets everybody in again."""

    version: int = Field(ge=1)
    environment: str | None = Field(None, max_length=64)


@router.get("/v1/layers", name="list_layers", responses=lead_to(remove_layer={"requestBody": {
    "name": "$response.body#/items/0/name", "version": "$response.body#/items/0/version", "reason": "no test needs it",
}}))  # fmt: skip
def list_all_layers(
    caller: From, environment: Environment = None, limit: Limit = 50, cursor: Position = None
) -> Page[LayerAnswer]:
    """Return the layers of an environment: which flag has which share of their users."""
    items, following = cut_page(report_layers(get_store(), caller.find_environment(environment)), cursor, limit)
    return Page[LayerAnswer](items=tuple(map(_describe, items)), next=following)


@router.post("/v1/layers", name="create_layer")
def post_layer(body: LayerCreation, make: Make) -> ChangeAnswer:
    """Make a layer; experiments that start in it share no user."""
    environment = make.caller.find_environment(body.environment)
    wanted = Layer(body.name, body.hash_version, body.description.strip())
    return make.make(body.reason, environment, lambda act: create_layer(get_store(), wanted, act))


@router.post("/v1/layers/remove", name="remove_layer")
def remove_one_layer(body: LayerRemoval, make: Make) -> ChangeAnswer:
    """Remove a layer that no flag has users of."""
    environment = make.caller.find_environment(body.environment)

    def find() -> Layer:
        found = get_layer(get_store(), environment, body.name)
        if found.version != body.version:
            raise Conflict(f"layer {body.name!r} is at version {found.version}, not {body.version}; read it again")
        return found

    return make.make(body.reason, environment, lambda act: remove_layer(get_store(), find(), act))


@router.post("/v1/layers/leave", name="leave_layer")
def leave_one_layer(body: LayerExit, make: Make) -> ChangeAnswer:
    """Give a flag without a running experiment back to all users."""
    environment = make.caller.find_environment(body.environment)

    def leave(act: Act) -> int:
        flag = get_flag(get_store(), environment, body.flag)
        if flag.version != body.version:
            raise Conflict(f"flag {flag.key!r} is at version {flag.version}, not {body.version}; read it again")
        return take_out(get_store(), flag, act, typed_name=body.confirm, now=datetime.now(UTC))

    return make.make(body.reason, environment, leave)


@router.get("/v1/holdout", name="get_holdout", responses=lead_to(end_holdout={"requestBody": {
    "version": "$response.body#/version", "reason": "the quarter is over",
}}))  # fmt: skip
def get_running_holdout(caller: From, environment: Environment = None) -> HoldoutAnswer:
    """Return the holdout of an environment, and the flags that keep out of it."""
    named = caller.find_environment(environment)
    found = get_holdout(get_store(), named)
    flags = list_held_out(get_store(), named)
    if found is None:
        return HoldoutAnswer(name=None, share_pct=None, hash_version=None, since=None, version=None, flags=flags)
    return HoldoutAnswer(
        name=found.name, share_pct=found.share_pct, hash_version=found.hash_version, since=found.since,
        version=found.version, flags=flags,
    )  # fmt: skip


@router.get("/v1/holdout/report", name="get_holdout_report")
def get_report_on_holdout(
    caller: From,
    metric: Annotated[str, Query(max_length=60, description="The metric's name.")] = "score",
    service: Annotated[str | None, Query(max_length=128, description="Whose rows count (default: all).")] = None,
    environment: Environment = None,
) -> HoldoutReportAnswer:
    """Compare the users who are held out with the rest: what all rollouts since its start did together."""
    return _describe_report(load_holdout(caller.find_environment(environment), metric, service))


@router.post("/v1/holdout/start", name="start_holdout")
def start_one_holdout(body: HoldoutStart, make: Make) -> ChangeAnswer:
    """Hold a share of the users out of every experiment and canary from now on."""
    environment = make.caller.find_environment(body.environment)
    wanted = Holdout(body.name, body.share_pct, body.hash_version)
    return make.make(body.reason, environment, lambda act: start_holdout(get_store(), wanted, act))


@router.post("/v1/holdout/end", name="end_holdout")
def end_running_holdout(body: HoldoutEnd, make: Make) -> ChangeAnswer:
    """Let everybody into experiments and canaries again."""
    environment = make.caller.find_environment(body.environment)

    def find() -> Holdout:
        found = get_holdout(get_store(), environment)
        if found is None:
            raise NotFound(f"holdout: none runs in {environment}")
        if found.version != body.version:
            raise Conflict(f"the holdout is at version {found.version}, not {body.version}; read it again")
        return found

    return make.make(body.reason, environment, lambda act: end_holdout(get_store(), find(), act))


def _describe_report(report: HoldoutReport) -> HoldoutReportAnswer:
    compared, holdout = report.compared, report.holdout
    known = compared is not None and compared.difference is not None
    return HoldoutReportAnswer(
        name=holdout.name, share_pct=holdout.share_pct, since=holdout.since, metric=str(report.metric),
        sentence=report.sentence, held_out_users=report.users[HELD], other_users=report.users[REST],
        mismatch_p=report.mismatch_p, held_out=compared.stable.mean if compared else None,
        others=compared.other.mean if compared else None, harm=compared.harm if compared else None,
        least_harm=compared.least_harm if compared and known else None,
        most_harm=compared.most_harm if compared and known else None,
    )  # fmt: skip


def _describe(report: LayerReport) -> LayerAnswer:
    layer = report.layer
    return LayerAnswer(
        name=layer.name, description=layer.description, hash_version=layer.hash_version, version=layer.version,
        free=report.free,
        uses=tuple(LayerUseAnswer(flag=use.flag, share=use.share, experiment=use.experiment) for use in report.uses),
    )  # fmt: skip
