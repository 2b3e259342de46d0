"""The commands `deploy …`: a service in two colors behind nginx."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from app.commands.common import Command, common, open_store, rollback_options, show, show_rehearsal
from core.audit.acts import Act
from core.config import PROJECT, Config

if TYPE_CHECKING:
    from core.deployments.colors import Deployment
    from core.deployments.deployments import Site

_STEPS = {
    "recorded": "the release is recorded",
    "started": "it is started; waiting for its health check",
    "healthy": "it is healthy",
    "checked": "the color that gets the traffic is healthy",
    "decided": "the switch is recorded; reloading nginx next",
    "written": "the upstream file is written",
    "tested": "nginx accepts it",
    "reloaded": "nginx reloads",
    "followed": "nginx follows",
    "settled": "done",
    "drained": "nobody is served by it any more, or the time for that is over",
    "stopped": "it is stopped",
}


@click.group()
def deploy() -> None:
    """Blue-green deployments behind nginx: start, switch, roll back, take down.

    Every command continues where a killed one stopped.
    """


_service_option = click.option("--service", metavar="NAME", help="Which service, if deployments.yaml has several.")
_reason_option = click.option("--reason", required=True, help="Why: it goes into the audit trail.")


def _on_site(command: Command) -> Command:
    return common(_service_option(command))


@deploy.command("release")
@click.argument("release")
@_reason_option
@_on_site
def deploy_release(config: Config, *, service: str | None, release: str, reason: str, as_json: bool) -> None:
    """Start RELEASE in the color without traffic, check it and switch to it.

    Example: quarterdeck deploy release 1.4.2 --reason "faster reranker"
    """
    from core.deployments import deployments

    site = _open(config, service, as_json)
    _show(as_json, deployments.deploy_release(open_store(config, create=True), site, release, _act(config, reason)))


@deploy.command("start")
@click.argument("release")
@_reason_option
@_on_site
def deploy_start(config: Config, *, service: str | None, release: str, reason: str, as_json: bool) -> None:
    """Start RELEASE in the color without traffic and wait until it is healthy.

    Example: quarterdeck deploy start 1.4.2 --reason "for inspection"
    """
    from core.deployments import deployments

    site = _open(config, service, as_json)
    _show(as_json, deployments.start_release(open_store(config, create=True), site, release, _act(config, reason)))


@deploy.command("switch")
@_reason_option
@_on_site
def deploy_switch(config: Config, *, service: str | None, reason: str, as_json: bool) -> None:
    """Send the traffic to the release that was started.

    Example: quarterdeck deploy switch --reason "looks good"
    """
    from core.deployments import deployments

    site = _open(config, service, as_json)
    _show(as_json, deployments.switch_color(open_store(config), site, _act(config, reason)))


@deploy.command("rollback")
@rollback_options
@_on_site
def deploy_rollback(config: Config, *, service: str | None, preview: bool, reason: str, as_json: bool) -> None:
    """Send the traffic back to the previous release.

    Example: quarterdeck deploy rollback --reason "error rate doubled"
    """
    from core.deployments import deployments
    from core.rehearsals.report import rehearse_color

    site = _open(config, service, as_json)
    if preview:
        store = open_store(config)
        found = deployments.get_deployment(store, config.environment, site.service.name)
        show_rehearsal(as_json, rehearse_color(store, found, now=datetime.now(UTC)), "")
        return
    _show(as_json, deployments.roll_back(open_store(config), site, _act(config, reason)))


@deploy.command("teardown")
@click.option("--now", is_flag=True, help="Also while it is kept for a rollback.")
@click.option(
    "--reason", default="taken down from the command line", show_default=True, help="Why: it goes into the audit trail."
)
@_on_site
def deploy_teardown(config: Config, *, service: str | None, now: bool, reason: str, as_json: bool) -> None:
    """Stop the color without traffic. The server does so automatically when its keep time is over.

    Example: quarterdeck deploy teardown --now
    """
    from core.deployments import deployments

    site = _open(config, service, as_json)
    _show(as_json, deployments.tear_down(open_store(config), site, _act(config, reason), early=now))


@deploy.command("resume")
@click.option(
    "--reason", default="resumed from the command line", show_default=True, help="Why: it goes into the audit trail."
)
@_on_site
def deploy_resume(config: Config, *, service: str | None, reason: str, as_json: bool) -> None:
    """Restore the intended state: finish an interrupted switch, start the live color, reload nginx.

    Example: quarterdeck deploy resume
    """
    from core.deployments import deployments

    site = _open(config, service, as_json)
    _show(as_json, deployments.resume(open_store(config), site, _act(config, reason)))


@deploy.command("status")
@_on_site
def deploy_status(config: Config, *, service: str | None, as_json: bool) -> None:
    """Show which color should be live and what is running (exit code 1 when the two differ).

    Example: quarterdeck deploy status
    """
    from core.deployments.colors import Color, describe_deployment
    from core.deployments.deployments import get_deployment, look

    site = _open(config, service, as_json)
    found, sight = get_deployment(open_store(config), config.environment, site.service.name), look(site)
    lines = [describe_deployment(found, now=datetime.now(UTC))]
    for color in Color:
        state = f"{sight.running[color]}, {sight.problems[color] or 'healthy'}" if sight.running[color] else "stopped"
        lines.append(f"{color:<6} {site.service.find(color):<22} {state}")
    lines.append(f"nginx  {site.service.address:<22} follows {sight.serving or sight.proxy_problem or 'no color'}")
    show(as_json, {"deployment": found, "found": sight}, lines)
    if sight.serving != found.live or not found.settled:
        sys.exit(1)


@deploy.command("site")
@_on_site
def deploy_site(config: Config, *, service: str | None, as_json: bool) -> None:  # noqa: ARG001 - always nginx's format
    """Print nginx's server block for the service, and make its upstream file if there is none.

    Example: quarterdeck deploy site > /etc/nginx/conf.d/answers.conf
    """
    from core.deployments.proxy import render_site

    site = _open(config, service, True)
    if not site.proxy.exists():
        site.proxy.write(None, "none 0")
    template = PROJECT / "deploy" / "nginx" / "site.conf.template"
    click.echo(render_site(site.service, template.read_text(encoding="utf-8")), nl=False)


def _open(config: Config, service: str | None, as_json: bool) -> "Site":
    from core.deployments.deployments import open_site
    from core.deployments.services import get_service

    def say(step: str) -> None:
        if not as_json:
            click.echo(_STEPS.get(step, step), err=True)

    return open_site(get_service(config.deployments, service), config.home, on_step=say)


def _act(config: Config, reason: str) -> Act:
    return Act(config.operator, reason, config.environment)


def _show(as_json: bool, found: "Deployment") -> None:
    from core.deployments.colors import describe_deployment

    show(as_json, found, [describe_deployment(found, now=datetime.now(UTC))])
