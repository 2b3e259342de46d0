"""Gateway to the configuration: read once from the environment, validated as a whole, then passed around as a value."""

import getpass
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from core.access.identity import SignIn, read_sign_in
from core.audit.environments import check_environment, settle_environment
from core.audit.permissions import Role
from core.embedding.embed import DEFAULT_MODEL
from core.errors import InvalidInput, SourceUnavailable
from core.safety.inheritance import list_passed
from quarterdeck.log import open_log
from quarterdeck.scope import DEFAULT_ENVIRONMENT, fold_environment, read_aliases
from quarterdeck.store import Store

_RETENTION = {
    "rows": "QUARTERDECK_RETENTION_DAYS",
    "text": "QUARTERDECK_TEXT_DAYS",
    "answers": "QUARTERDECK_ANSWERS_DAYS",
    "documents": "QUARTERDECK_DOCUMENTS_DAYS",
}
_LEAST_SECRET = 16  # characters
_PROTOCOLS = ("openai", "anthropic")  # of `core.prompts.models`, which stands above this folder
PUBLIC_API = "https://api.github.com"  # GitHub's own; an Enterprise Server has another
_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,255}")
_Value = TypeVar("_Value")
PROJECT = Path(__file__).resolve().parents[1]  # the checkout; of an installed deck the folder of its package


@dataclass(frozen=True, slots=True)
class Config:
    """Where everything is. Each field has an environment variable of its own; docs/settings.md lists them."""

    home: Path
    database_url: str
    log_url: str
    tracking_uri: str
    experiment: str  # empty: the newest one with evaluated runs
    corpus_repo: str
    index_uri: str
    golden_set: Path
    embedding_model: str
    environment: str
    operator: str
    operator_role: Role
    access: SignIn
    low_score: float | None
    redact: bool
    retention: Mapping[str, int]  # days, by part: rows, text, answers, documents
    require_tokens: bool
    deployments: Path
    token_per_minute: int  # requests
    address_per_minute: int
    address_at_once: int
    page_origins: tuple[str, ...]  # of other sites whose pages may ask for flags
    log_format: str
    log_level: str
    github_secret: str = field(repr=False)  # signs GitHub's webhooks; empty: they are refused
    github_repository: str  # owner/name, where gaps become issues; empty: nowhere
    github_token: str = field(repr=False)  # with the right to write issues there
    github_api: str
    audit_key: Path | None  # signs the heads of the audit trail
    audit_heads: Path
    audit_webhook: str
    judge_answers: int  # production answers that are judged a day, of each service
    judge_model: str  # protocol:name of the model that judges them; empty: the offline judge
    judge_usd: float  # what that may cost a day, of all services
    digest_to: tuple[str, ...]  # who gets digests by mail; empty: nobody
    digest_from: str
    digest_smtp: str = field(repr=False)  # the mail server, perhaps with a password
    digest_every: str  # day, week or month
    otlp_grpc_port: int | None  # None: 4317 if grpcio is installed and the port is free; 0: off


def load_config(
    environ: Mapping[str, str], *, database_url: str | None = None, environment: str | None = None
) -> Config:
    """Return the configuration from environment variables.

    Raises InvalidInput naming the variable; several invalid ones are reported together.
    """
    problems: list[InvalidInput] = []

    def check(read: Callable[..., _Value], *arguments: Any, **options: Any) -> _Value:
        try:
            return read(*arguments, **options)
        except InvalidInput as error:
            problems.append(error)
            return cast(_Value, None)  # never used: the configuration is rejected below

    home = Path(environ.get("QUARTERDECK_HOME") or find_home()).absolute()
    database = database_url or environ.get("QUARTERDECK_DATABASE_URL") or f"sqlite:///{home / 'quarterdeck.db'}"
    for name in ("QUARTERDECK_DATABASE_URL", "QUARTERDECK_LOG_URL"):
        check(_check_url, environ, name)
    config = Config(
        home=home,
        database_url=database,
        log_url=environ.get("QUARTERDECK_LOG_URL") or database,
        tracking_uri=environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
        experiment=environ.get("QUARTERDECK_EXPERIMENT") or "",
        corpus_repo=environ.get("QUARTERDECK_CORPUS_REPO") or str(home / "corpus"),
        index_uri=environ.get("QUARTERDECK_INDEX_URI") or str(home / "indexes"),
        golden_set=Path(environ.get("QUARTERDECK_GOLDEN_SET") or home / "golden.jsonl"),
        embedding_model=environ.get("QUARTERDECK_EMBEDDING_MODEL") or DEFAULT_MODEL,
        environment=check(
            check_environment,
            environment or environ.get("QUARTERDECK_ENVIRONMENT") or DEFAULT_ENVIRONMENT,
            field="environment" if environment else "QUARTERDECK_ENVIRONMENT",
        ),
        operator=environ.get("QUARTERDECK_OPERATOR") or _login_name(),
        operator_role=check(_read_role, environ, "QUARTERDECK_OPERATOR_ROLE"),
        access=check(read_sign_in, environ, check),
        low_score=check(_read_share, environ, "QUARTERDECK_LOW_SCORE"),
        redact=check(_read_switch, environ, "QUARTERDECK_REDACT"),
        retention={part: days for part, name in _RETENTION.items() if (days := check(_read_days, environ, name))},
        require_tokens=check(_read_switch, environ, "QUARTERDECK_REQUIRE_TOKENS", default="off"),
        deployments=Path(environ.get("QUARTERDECK_DEPLOYMENTS") or home / "deployments.yaml").absolute(),
        token_per_minute=check(_read_count, environ, "QUARTERDECK_TOKEN_REQUESTS_PER_MINUTE", 600_000),
        address_per_minute=check(_read_count, environ, "QUARTERDECK_ADDRESS_REQUESTS_PER_MINUTE", 600_000),
        address_at_once=check(_read_count, environ, "QUARTERDECK_ADDRESS_CONNECTIONS", 500),
        page_origins=check(_read_origins, environ, "QUARTERDECK_PAGE_ORIGINS"),
        log_format=check(_read_word, environ, "QUARTERDECK_LOG_FORMAT", ("text", "json")),
        log_level=check(_read_word, environ, "QUARTERDECK_LOG_LEVEL", ("warning", "info", "debug", "error")),
        github_secret=check(_read_secret, environ, "QUARTERDECK_GITHUB_SECRET"),
        github_repository=environ.get("QUARTERDECK_GITHUB_REPOSITORY") or "",
        github_token=environ.get("QUARTERDECK_GITHUB_TOKEN") or "",
        github_api=check(_read_webhook, environ, "QUARTERDECK_GITHUB_API") or PUBLIC_API,
        audit_key=Path(key).absolute() if (key := environ.get("QUARTERDECK_AUDIT_KEY")) else None,
        audit_heads=Path(environ.get("QUARTERDECK_AUDIT_HEADS") or home / "audit-heads.jsonl").absolute(),
        audit_webhook=check(_read_webhook, environ, "QUARTERDECK_AUDIT_WEBHOOK"),
        judge_answers=check(_read_answers, environ, "QUARTERDECK_JUDGE_ANSWERS", 200),
        judge_model=check(_read_model, environ, "QUARTERDECK_JUDGE_MODEL"),
        judge_usd=check(_read_usd, environ, "QUARTERDECK_JUDGE_USD", 1.0),
        digest_to=check(_read_mails, environ, "QUARTERDECK_DIGEST_TO"),
        digest_from=next(iter(check(_read_mails, environ, "QUARTERDECK_DIGEST_FROM") or ()), ""),
        digest_smtp=check(_read_smtp, environ, "QUARTERDECK_DIGEST_SMTP"),
        digest_every=check(_read_word, environ, "QUARTERDECK_DIGEST_EVERY", ("week", "day", "month")),
        otlp_grpc_port=check(_read_port, environ, "QUARTERDECK_OTLP_GRPC_PORT"),
    )
    check(list_passed, environ)
    check(read_aliases, environ)
    if len(problems) > 1:
        raise InvalidInput("configuration", f"{len(problems)} values are invalid. {'. '.join(map(str, problems))}")
    if problems:
        raise problems[0]
    return _settle_environment(config)


def find_home(project: Path = PROJECT) -> Path:
    """Return where state lives unless somebody says otherwise: in the checkout, else in the platform's data folder."""
    if (project / "pyproject.toml").exists():
        return project / "data" / "var"
    from platformdirs import user_data_path

    return user_data_path("quarterdeck", appauthor=False)


def _settle_environment(config: Config) -> Config:
    """Return the configuration with what its environment is an alias of; hardly any name is one."""
    if fold_environment(config.environment) == config.environment.casefold():
        return config
    store = Store(config.database_url)
    settled = replace(config, environment=settle_environment(store, config.environment))
    store.close()
    return settled


def _check_url(environ: Mapping[str, str], name: str) -> None:
    if not (url := environ.get(name)):
        return
    try:
        opened = open_log(url) if name == "QUARTERDECK_LOG_URL" else Store(url)
        opened.close()
    except InvalidInput as error:
        raise InvalidInput(name, error.problem) from error
    except SourceUnavailable:
        return  # a missing driver is reported when the store is opened


def _read_webhook(environ: Mapping[str, str], name: str) -> str:
    url = environ.get(name) or ""
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc):
        raise InvalidInput(name, "must be an http or https address without a password in it")
    return url


def _read_mails(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    given = [address.strip() for address in (environ.get(name) or "").split(",")]
    for address in filter(None, given):
        if not _MAIL.fullmatch(address):
            raise InvalidInput(name, f"must be mail addresses like team@example.org, with commas, not {address!r}")
    return tuple(dict.fromkeys(filter(None, given)))


def _read_smtp(environ: Mapping[str, str], name: str) -> str:
    """Return the address of a mail server. It may hold a password, so no message tells it."""
    url = environ.get(name) or ""
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_valid = False
    if url and (not is_valid or parts.path.strip("/") or parts.query):
        raise InvalidInput(name, "must be an address like smtp://user:password@mail.example.org:587, or smtps://…")
    if not url and environ.get("QUARTERDECK_DIGEST_TO"):
        raise InvalidInput(name, "must be set where QUARTERDECK_DIGEST_TO is: the mail server that takes the digests")
    return url


def _read_origins(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    given = [origin.strip().rstrip("/").lower() for origin in (environ.get(name) or "").split(",")]
    for origin in filter(None, given):
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}":
            raise InvalidInput(name, f"must be origins such as https://shop.example, with commas, not {origin!r}")
        if "@" in parts.netloc or "*" in parts.netloc:
            raise InvalidInput(name, f"must name each origin, without wildcards and passwords, not {origin!r}")
    return tuple(dict.fromkeys(filter(None, given)))


def _read_share(environ: Mapping[str, str], name: str) -> float | None:
    text = environ.get(name)
    if not text:
        return None
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise InvalidInput(name, f"must be a number between 0 and 1, not {text!r}")
    return share


def _read_days(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 36_500:
        raise InvalidInput(name, f"must be a whole number of days, at least 1, not {text!r}")
    return int(text)


def _read_count(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 100_000_000:
        raise InvalidInput(name, f"must be a whole number, at least 1, not {text!r}")
    return int(text)


def _read_answers(environ: Mapping[str, str], name: str, default: int) -> int:
    """Return a number of answers; off is 0."""
    text = environ.get(name) or str(default)
    if text == "off":
        return 0
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise InvalidInput(name, f"must be a number of answers a day from 1 to 100,000, or off, not {text!r}")
    return int(text)


def _read_model(environ: Mapping[str, str], name: str) -> str:
    text = environ.get(name) or ""
    protocol, _, model = text.partition(":")
    if text and (protocol not in _PROTOCOLS or not model):
        raise InvalidInput(name, f"must be {' or '.join(_PROTOCOLS)} and the model's name after a colon, not {text!r}")
    return text


def _read_usd(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name) or str(default)
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0.0 < amount < float("inf"):
        raise InvalidInput(name, f"must be more than 0 USD a day, not {text!r}")
    return amount


def _read_port(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if text == "off":
        return 0
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise InvalidInput(name, f"must be a port from 1 to 65535, or off, not {text!r}")
    return int(text)


def _read_switch(environ: Mapping[str, str], name: str, *, default: str = "on") -> bool:
    text = environ.get(name) or default
    if text not in ("on", "off"):
        raise InvalidInput(name, f"must be on or off, not {text!r}")
    return text == "on"


def _read_secret(environ: Mapping[str, str], name: str) -> str:
    secret = environ.get(name) or ""
    if secret and len(secret) < _LEAST_SECRET:
        raise InvalidInput(name, f"must have at least {_LEAST_SECRET} characters")
    return secret


def _read_word(environ: Mapping[str, str], name: str, words: tuple[str, ...]) -> str:
    text = environ.get(name) or words[0]
    if text not in words:
        raise InvalidInput(name, f"must be {', '.join(words)}, not {text!r}")
    return text


def _read_role(environ: Mapping[str, str], name: str) -> Role:
    text = environ.get(name) or Role.ADMIN
    if text not in list(Role):
        raise InvalidInput(name, f"must be {', '.join(Role)}, not {text!r}")
    return Role(text)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"
