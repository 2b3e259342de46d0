"""The command line: turns arguments into calls of `core/`, reports into text or JSON, and errors into exit codes.

Exit codes: 0 done, 1 a source failed or somebody else was faster, 2 the input was wrong.
"""

import logging
import os
import signal
import sys
from datetime import UTC, datetime

import click

from app.commands import (
    alerts,
    audit,
    backups,
    canaries,
    cases,
    corpus,
    deploy,
    digest,
    doctor,
    emerging,
    environments,
    erase,
    evaluations,
    experiments,
    flags,
    indexes,
    intake,
    judges,
    layers,
    ledger,
    log,
    mcp,
    metrics,
    migrations,
    prompts,
    questions,
    replay,
    requests,
    roles,
    scores,
    services,
    tokens,
)
from app.commands.common import common, open_store, show
from core.config import Config
from core.errors import InvalidInput, NotFound, QuarterdeckError, SourceUnavailable

logger = logging.getLogger("quarterdeck")


def run() -> None:
    """Run the command line; every error of ours becomes one line and an exit code."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("LANCE_LOG", "error")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads must not spin
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up on SIGTERM
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Abort:
        sys.exit(130)
    except QuarterdeckError as error:
        click.echo(f"quarterdeck: {error}", err=True)
        sys.exit(2 if isinstance(error, InvalidInput | NotFound) else 1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Quarterdeck: the operations deck of a RAG product."""
    os.umask(0o077)  # only this user may read queries and webhook secrets


@main.command()
@click.option("--reset", is_flag=True, help="Remove the existing demo first.")
@common
def demo(config: Config, *, reset: bool, as_json: bool) -> None:
    """Build the demo in QUARTERDECK_HOME: corpus, indexes, retrievals, MLflow runs, flags.

    Example: quarterdeck demo --reset
    """
    from core.demo.build import build_demo

    built = build_demo(config, now=datetime.now(UTC), reset=reset, say=lambda line: click.echo(line, err=as_json))
    text = f"The demo is ready in {config.home}." if built else f"There already is a demo in {config.home}."
    show(as_json, {"home": str(config.home), "built": built}, [text])


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8501, show_default=True, type=click.IntRange(1, 65535), help="The port to listen on.")
@common
def serve(config: Config, *, host: str, port: int, as_json: bool) -> None:
    """Serve the pages and the HTTP API from one process.

    Example: quarterdeck serve --port 8600
    """
    from app.http.base_path import read_base_path
    from app.http.server import serve as serve_app
    from core.access.identity import check_bind

    check_bind(config.access, host)
    _migrate(config)
    os.environ |= {"QUARTERDECK_DATABASE_URL": config.database_url, "QUARTERDECK_ENVIRONMENT": config.environment}
    url = f"http://{host}:{port}{read_base_path()}"
    show(as_json, {"url": url}, [f"Quarterdeck is on {url} (stop with Ctrl-C)"])
    serve_app(host, port)


def _migrate(config: Config) -> None:
    """Migrate the store to this release. If it cannot be read now, the pages say why."""
    from core.store.migrator import migrate

    store = open_store(config)
    try:
        done = migrate(store)
    except SourceUnavailable as error:
        logger.warning("the store was not checked for migrations: %s", error)
        return
    finally:
        store.close()
    if done.was_needed:
        logger.warning("%s was migrated from schema revision %s to %s", store.name, done.before, done.after)


for command in (
    log.drift, log.topics, questions.questions, log.import_command, log.import_traces_command,
    scores.import_scores_command, log.purge, erase.erase, intake.intake, services.services, corpus.corpus,
    indexes.index, flags.flags, alerts.alerts, audit.audit, evaluations.evaluate, evaluations.gate, judges.judges,
    prompts.prompts, requests.requests, roles.roles, tokens.tokens, environments.environments, deploy.deploy,
    canaries.canary, cases.cases, experiments.experiments, metrics.metrics, layers.layers, layers.holdout,
    ledger.ledger, ledger.predict_effect_command, replay.replay, emerging.emerging,
    backups.backup, backups.restore, digest.digest, doctor.doctor, migrations.migrate, mcp.mcp,
):  # fmt: skip
    main.add_command(command)
