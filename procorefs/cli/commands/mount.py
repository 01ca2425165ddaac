"""`procorefs mount`: makes all checks, starts the daemon, and returns when the mount answers."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import msgspec

from procorefs.cli.mounts import daemonize
from procorefs.cli.mounts.locate import given_path
from procorefs.cli.mounts.mountpoint import check_fuse, ready_mountpoint, wait_for_closing_owner
from procorefs.cli.mounts.registry import registered
from procorefs.cli.support.project_ids import find_ids, wanted
from procorefs.cli.support.terminal import say
from procorefs.config import (
    Account,
    Failure,
    MountOptions,
    Paths,
    ResolvedMount,
    find_account,
    find_paths,
    layered_options,
    options_help,
    parse_options,
    parse_spec,
    private_dir,
    read_config,
)
from procorefs.config.resolved import log_file
from procorefs.storage.processes import forget_secrets


class NotMounted(Failure):
    """The daemon did not start, or ended with an error."""


class Plan(msgspec.Struct, frozen=True):
    """A mount that this machine allows; names of company and project may still need a call."""

    account: Account
    company: str
    """Id or name."""
    project: str
    mountpoint: Path
    options: MountOptions
    paths: Paths
    source: str

    @property
    def log_file(self) -> Path:
        """The daemon's log, the same for every mount at this mount point."""
        return log_file(self.paths, self.mountpoint)


def _epilog() -> str:
    # \b: click keeps the lines of this paragraph as they are
    return f"\b\nOptions of -o:\n{options_help()}"


@click.command(epilog=_epilog(), short_help="Mount a project at a directory.")
@click.option("-o", "words", multiple=True, metavar="OPT[,OPT…]", help="Mount options, listed below.")
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground and log to stderr.")
@click.argument("places", nargs=-1, required=True, metavar="[SPEC] MOUNTPOINT")
def mount(words: tuple[str, ...], foreground: bool, places: tuple[str, ...]) -> None:
    """Mount the project SPEC at MOUNTPOINT.

    SPEC is [PROFILE:]COMPANY/PROJECT, ids or names. Without it the profile, or PROCOREFS_COMPANY_ID and
    PROCOREFS_PROJECT_ID, name the project.
    """
    if len(places) > 2:
        raise click.UsageError(f"'{places[2]}' is one argument too many; write [SPEC] MOUNTPOINT")
    mount_project(
        places[0] if len(places) == 2 else None, given_path(places[-1]), words, foreground=foreground
    )


def mount_project(spec_text: str | None, path: Path, words: Sequence[str], *, foreground: bool) -> None:
    """Mount and return when the mount answers, or with `foreground` when it has ended. Raises Failure."""
    plan = make_plan(spec_text, path, words)
    forget_secrets()
    if foreground:
        daemonize.log_to_stderr()
        with contextlib.suppress(KeyboardInterrupt):
            _serve(plan, None, _say_restriction)
    else:
        _say_restriction(daemonize.start(lambda ready: _serve(plan, plan.log_file, ready), plan.log_file))


def _say_restriction(clause: str) -> None:
    """Say what the account may not do."""
    if clause:
        say(f"{clause[0].upper()}{clause[1:]}.", to_stderr=True)


def make_plan(spec_text: str | None, path: Path, words: Sequence[str]) -> Plan:
    """Make all checks that need no call to Procore. Raises Failure."""
    parse_options(words)  # a wrong call is reported before a wrong file
    paths = find_paths(os.environ)
    config = read_config(paths.config_file)
    spec = parse_spec(spec_text, config.profiles) if spec_text is not None else None
    account = find_account(os.environ, config, paths, spec.profile if spec else None)
    options = _with_redis_password(
        layered_options(paths.config_file, config, account.profile, words),
        os.environ.get("PROCOREFS_REDIS_PASSWORD"),
    )
    company, project = wanted(spec, account)
    check_fuse(options)
    return Plan(
        account=account,
        company=company,
        project=project,
        mountpoint=ready_mountpoint(path, paths),
        options=options,
        paths=paths,
        source=spec_text or f"{company}/{project}",
    )


def _with_redis_password(options: MountOptions, password: str | None) -> MountOptions:
    if options.limiter == "local" or not password:
        return options
    from procorefs.limiter.redis_store import with_password

    return msgspec.structs.replace(options, limiter=with_password(options.limiter, password))


def _serve(plan: Plan, log_file: Path | None, ready: Callable[[str], None]) -> None:
    """Run the daemon, in its own process."""
    private_dir(plan.paths.tokens_dir)
    company_id, project_id = find_ids(plan.account, plan.company, plan.project)
    wait_for_closing_owner(plan.account.api.api_url, company_id, project_id, plan.paths)
    resolved = ResolvedMount(
        api=msgspec.structs.replace(plan.account.api, company_id=company_id, project_id=project_id),
        mountpoint=plan.mountpoint,
        options=plan.options,
        paths=plan.paths,
        source=plan.source,
        log_file=log_file,
    )
    with registered(resolved) as registration:
        # Only the daemon's process imports it: the import takes most of the start's time.
        from procorefs.daemon import run_daemon

        try:
            run_daemon(resolved, ready=ready, detached=registration.detach)
        except Failure as error:
            raise NotMounted(_with_project(error, plan.source)) from error


def _with_project(error: BaseException, source: str) -> str:
    """The error as a sentence; if the project is unknown or not accessible, with what to do."""
    from procorefs.procore.errors import Forbidden, NotFound

    # The daemon's nurseries wrap errors in groups.
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, Forbidden | NotFound):
        return f"{source} cannot be mounted: {cause}; `procorefs projects` lists those that you can mount"
    return str(error)
