"""The API under /v1 as one application: its routes, its OpenAPI document, and errors as problem details (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from app.http.refusals import challenge, status_of
from app.http.v1 import alerts, audit, corpus, flags, layers, metrics, prompts, questions, rollouts, topics, verdicts
from core.errors import InvalidInput, QuarterdeckError
from core.safety.letters import show_text

PREFIX = "/v1/"
DOCUMENT = "/v1/openapi.json"
PROBLEM = "application/problem+json"
_VERSION = "1"
_SAFE = "get"
_ROUTERS = (verdicts, questions, topics, corpus, prompts, flags, rollouts, metrics, layers, alerts, audit)
_ERRORS = {  # of reads and changes; what only changes answer is below
    400: "The input is wrong; `field` names it.",
    401: "A token is missing, unknown, expired or revoked.",
    403: "The token lacks the scope, or belongs to another environment or service.",
    404: "There is nothing of that name.",
    429: "Too many requests; `Retry-After` says for how many seconds to wait.",
    503: "A source, such as the store or MLflow, cannot be read.",
}
_ERRORS_OF_CHANGES = {
    408: "The body took longer than a minute.",
    409: "Somebody else changed it first, or the idempotency key was used with another request.",
    413: "The body is larger than 1,000,000 bytes.",
    415: "The content type or encoding is not understood.",
    500: "A change of two systems failed in the middle; the text says what is left.",
}


class ProblemAnswer(BaseModel):
    """What went wrong, as RFC 9457 describes it."""

    type: str = Field("about:blank", description="`about:blank`: the status says what kind of problem it is.")
    title: str
    status: int
    detail: str = Field(description="One line: what is wrong and what to do.")
    field: str | None = Field(None, description="The field or parameter that is wrong.")


def make_app() -> FastAPI:
    """Return the application. It opens the store at its first request."""
    app = FastAPI(
        title="Quarterdeck", version=_VERSION, openapi_url=DOCUMENT, docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    for module in _ROUTERS:
        app.router.routes.extend(module.router.routes)
    app.add_exception_handler(QuarterdeckError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_shape)
    app.add_exception_handler(HTTPException, _refuse_route)
    app.openapi = lambda: _describe(app)  # type: ignore[method-assign]
    return app


def answer_problem(error: QuarterdeckError) -> JSONResponse:
    """Return the answer that says what is wrong."""
    field = show_text(error.field) if isinstance(error, InvalidInput) else None
    return _answer(status_of(error), str(error), field=field, headers=challenge(error))


def _describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document: what FastAPI finds in the types, with our errors and the tokens."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, openapi_version="3.1.0", routes=app.routes,
            summary="What the pages show and change, for programs.",
        )  # fmt: skip
        parts = found["components"]
        for name in ("HTTPValidationError", "ValidationError"):
            parts["schemas"].pop(name, None)
        parts["schemas"]["ProblemAnswer"] = ProblemAnswer.model_json_schema()
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
        for path in found["paths"].values():
            for method, operation in path.items():
                _add_errors(method, operation["responses"])
        app.openapi_schema = found
    return app.openapi_schema


def _add_errors(method: str, answers: dict[str, Any]) -> None:
    answers.pop("422", None)
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}}
    for status, said in sorted((_ERRORS | ({} if method == _SAFE else _ERRORS_OF_CHANGES)).items()):
        answers[str(status)] = {"description": said, "content": content}
    if method == _SAFE:
        answers["200"]["headers"] = {"ETag": {"schema": {"type": "string"}}}
        answers["304"] = {"description": "`If-None-Match` names what would be answered."}


def _answer(
    status: int, detail: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    problem = ProblemAnswer(
        type="about:blank", title=HTTPStatus(status).phrase, status=status, detail=show_text(detail), field=field
    )
    return JSONResponse(problem.model_dump(), status, dict(headers or {}), PROBLEM)


async def _refuse(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, QuarterdeckError)
    return answer_problem(error)


async def _refuse_shape(_request: Request, error: Exception) -> JSONResponse:
    """Answer 400 with the first thing that does not fit, without what was sent: it may be a secret."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])[:200] or str(first["loc"][0])
    return _answer(400, f"{field}: {first['msg']}", field=field)


async def _refuse_route(request: Request, error: Exception) -> JSONResponse:
    """Answer 404 or 405; `Allow` names the methods of every route of the path, not of the first one alone."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        fitting = (each for each in request.app.routes if each.path_regex.match(request.url.path))
        headers["Allow"] = ", ".join(sorted({method for each in fitting for method in each.methods}))
    return _answer(error.status_code, str(error.detail), headers=headers)
