"""The tools by which a language model proposes changes (MCP): the changes of the API under /v1, none of them made.

Each calls the function of its route, so it checks what the route checks, expected versions too. What it would change
becomes a change request, which a person approves or rejects.
"""

import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import wraps
from typing import Annotated, Any

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from app.http.backends import get_config, get_store
from app.http.v1 import audit, corpus, flags, layers, metrics, prompts, rollouts
from app.http.v1.callers import Caller
from app.http.v1.models import Answered, Untrusted
from core.approvals.operations import may_decide_alone
from core.approvals.requests import ChangeRequest, get_request, list_requests
from core.approved import can_apply, preview_request
from core.audit.acts import Act
from core.audit.gate import RequestState, WantedChange
from core.audit.jsondiff import diff_states
from core.errors import ApprovalNeeded, InvalidInput

PREFIX = "propose_"
LONGEST_REASON = 500
_MOST_DIFF = 20_000
_MOST_LISTED = 50
PROPOSALS: tuple[Callable[..., Any], ...] = (
    flags.put_flag, flags.move_flag, flags.delete_one_flag, flags.post_schedule, flags.resume_one_schedule,
    rollouts.promote_one_canary, rollouts.roll_back_one_canary,
    rollouts.post_experiment, rollouts.stop_one_experiment, rollouts.decide_one_experiment,
    corpus.swap_alias, corpus.start_alias_canary, corpus.roll_back_alias,
    prompts.post_promotion, prompts.roll_back_promotion,
    metrics.post_metric, metrics.delete_metric,
    layers.leave_one_layer, layers.start_one_holdout, layers.end_running_holdout,
    audit.revert_entry,
)  # fmt: skip
Reason = Annotated[
    str,
    Field(
        min_length=1, max_length=LONGEST_REASON,
        description="Why, in plain words on one line, for the person who decides. It goes into the audit trail.",
    ),
]  # fmt: skip


class ProposedChangeAnswer(Answered):
    """One change of a proposal: what it does to what, and the lines that differ."""

    action: str
    target: str
    difference: Untrusted[str]


class ProposalAnswer(Answered):
    """A change request that an assistant made. Nothing has changed; `next_step` says who may change that."""

    request: int
    state: RequestState
    version: int
    environment: str
    asked_by: str
    reason: str
    changes: tuple[ProposedChangeAnswer, ...]
    effect: str = Field(description="What it would do to users, as far as that can be predicted.")
    expires: datetime
    decided_by: str
    note: str
    next_step: str


class Proposing:
    """Stands where a route expects what makes its change, and makes a change request of it instead."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    def make(self, reason: str, environment: str, change: Callable[[Act], Any]) -> ProposalAnswer:
        """Return the request that a change became."""
        if not reason.isprintable():
            raise InvalidInput("reason", "must be one line of printable characters")
        try:
            change(self.caller.make_proposal(reason, environment))
        except ApprovalNeeded as needed:
            return describe_proposal(get_request(get_store(), needed.request_id))
        raise AssertionError("an act of an assistant was made")  # `acts.changing` makes none


def list_proposals(caller: Caller) -> tuple[ProposalAnswer, ...]:
    """Return the newest 50 proposals of your own with what became of them."""
    found = list_requests(get_store(), caller.environment, states=tuple(RequestState))
    own = [each for each in found if each.assistant == caller.name]
    return tuple(describe_proposal(each) for each in own[:_MOST_LISTED])


def describe_proposal(request: ChangeRequest) -> ProposalAnswer:
    """Return what an assistant is told of its request."""
    is_open = request.state is RequestState.WAITING
    effect = preview_request(get_store(), request, now=datetime.now(UTC)) if is_open else request.effect
    return ProposalAnswer(
        request=request.request_id, state=request.state, version=request.version, environment=request.environment,
        asked_by=request.requester, reason=request.reason, effect=effect, expires=request.expires,
        decided_by=request.decided_by, note=request.note, next_step=_say_next(request),
        changes=tuple(_describe_change(each) for each in request.changes),
    )  # fmt: skip


def _describe_change(change: WantedChange) -> ProposedChangeAnswer:
    difference = diff_states(change.before, change.after)
    return ProposedChangeAnswer(action=str(change.action), target=change.target, difference=difference[:_MOST_DIFF])


def make_proposal(
    name: str, function: Callable[..., Any], find_caller: Callable[[Any], Caller], tell: Callable[..., str]
) -> Callable[..., str]:
    """Return the tool that proposes what a route changes. Its arguments are those of the route, side by side.

    `tell` calls what it gets and returns its answer, or its error, as tools tell them.
    """
    from mcp.server.mcpserver import Context

    own = inspect.signature(function).parameters
    bodies = {each.name: each.annotation for each in own.values() if _is_body(each)}
    plain = [each for each in own.values() if each.name not in bodies and each.name != "make"]
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=Context)

    @wraps(function)
    def tool(**given: Any) -> str:
        found = given.pop("ctx")

        def propose() -> ProposalAnswer:
            asked: dict[str, Any] = {each.name: given[each.name] for each in plain}
            for body, model in bodies.items():
                asked[body] = model(**{field: given[field] for field in model.model_fields})
            answer = function(**asked, make=Proposing(find_caller(found)))
            assert isinstance(answer, ProposalAnswer)
            return answer

        return tell(propose)

    taken = [_keep(each) for each in plain]
    taken += [each for model in bodies.values() for each in _spread(model)]
    named = sorted(taken, key=lambda each: each.default is not inspect.Parameter.empty)
    tool.__name__ = name
    tool.__doc__ = (
        f"Propose this change: {inspect.getdoc(function)} Nothing changes until a person approves the change request "
        "that this makes. Say to the person you work for what you proposed, and why."
    )
    tool.__signature__ = inspect.Signature([*named, context], return_annotation=str)  # type: ignore[attr-defined]
    tool.__annotations__ = {each.name: each.annotation for each in [*named, context]} | {"return": str}
    return tool


def _is_body(parameter: inspect.Parameter) -> bool:
    return inspect.isclass(parameter.annotation) and issubclass(parameter.annotation, BaseModel)


def _keep(parameter: inspect.Parameter) -> inspect.Parameter:
    annotation = Reason if parameter.name == "reason" else parameter.annotation
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=annotation)


def _spread(model: type[BaseModel]) -> Iterator[inspect.Parameter]:
    """Yield the fields of a request's body as parameters."""
    for name, field in model.model_fields.items():
        annotation = Reason if name == "reason" else _annotate(field)
        default = inspect.Parameter.empty if field.is_required() else field.default
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _annotate(field: FieldInfo) -> Any:
    annotated: Any = Annotated
    return annotated[(field.annotation, *field.metadata, Field(description=field.description))]


def _say_next(request: ChangeRequest) -> str:
    if request.state is RequestState.APPROVED and not can_apply(request):
        return f"It is approved, and {request.requester} makes the change; nothing is left for you to do."
    if request.state is not RequestState.WAITING:
        return f"It is {request.state}; nothing is left for you to do."
    is_local = may_decide_alone(request, has_sign_in=not get_config().access.is_local)
    who = "the operator of this deck" if is_local else f"a person other than {request.requester}"
    return (
        f"Nothing has changed. On the page Rollouts, tab Requests, {who} approves or rejects request "
        f"{request.request_id}. Neither you nor another tool can."
    )
