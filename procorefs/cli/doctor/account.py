"""Checks the account: settings, the connection to Procore, its clock, the login, the rights and the call budget."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio

from procorefs.cli.doctor.findings import Finding, ok, problem, warning
from procorefs.config import Account, Failure, Paths, find_account, private_dir, read_config
from procorefs.config.spec import as_id
from procorefs.limiter.opening import budget_key, known_hourly_limit
from procorefs.procore.errors import Forbidden, ProcoreError, Unavailable
from procorefs.procore.wire.models import CompanyId, ProjectId
from procorefs.procore.wire.rights import restriction
from procorefs.storage import clocks

if TYPE_CHECKING:
    from procorefs.procore.api.client import Client

CLOCK_ERROR_S = 60.0
"""Tokens and check-outs bear a larger difference; file times would be wrong by it."""

WAIT_S = 30.0


def check_account(paths: Paths, profile: str | None) -> Iterator[Finding]:
    """All checks of the account; they make at most three API calls."""
    try:
        account = find_account(os.environ, read_config(paths.config_file), paths, profile)
        private_dir(paths.tokens_dir)
    except Failure as error:
        text, _, mend = str(error).partition("; ")
        yield problem("settings", text, mend or "run `procorefs login`")
        return
    whose = f"the profile '{account.profile}'" if account.profile else "the environment"
    yield ok("settings", f"client id {account.api.client_id} of {whose}")
    yield from trio.run(_ask, account)
    yield _budget(account)


async def _ask(account: Account) -> list[Finding]:
    findings: list[Finding] = []
    with trio.move_on_after(WAIT_S) as scope:
        await _ask_into(findings, account)
    if scope.cancelled_caught:
        findings.append(
            problem(
                "connection", f"{account.api.api_url} gave no answer in {WAIT_S:.0f} s", "try again later"
            )
        )
    return findings


async def _ask_into(findings: list[Finding], account: Account) -> None:
    """Add what Procore answers; ends at the first problem."""
    from procorefs.procore.api.client import REFUSALS, open_client

    async with open_client(account.api) as client:
        try:
            me = await client.me()
            who = me.name or me.login or f"user {me.id}"
        except Unavailable as error:
            findings.append(
                problem("connection", str(error), "check the network and the proxy (HTTPS_PROXY)")
            )
            return
        except REFUSALS:
            who = "a user without a name"
        except ProcoreError as error:
            findings.append(problem("login", str(error), "run `procorefs login` again"))
            return
        findings.append(ok("login", f"{who} at {account.api.api_url}"))
        findings.append(of_clock(client.limiter.server_unix_s() - clocks.wall_s()))
        company, project = as_id(account.company or ""), as_id(account.project or "")
        if company is not None and project is not None:
            findings.append(await _rights(client, (CompanyId(company), ProjectId(project))))


async def _rights(client: "Client", project: tuple[CompanyId, ProjectId]) -> Finding:
    """What the account may not do in the project that is mounted without SPEC."""
    try:
        clause = restriction(await client.rights(project))
    except Forbidden as error:
        return warning(
            "rights", str(error), "ask the company's administrator to connect the app to the project"
        )
    except ProcoreError as error:
        return ok("rights", f"unknown ({error}); what is not allowed is refused when it is tried")
    if clause:
        return warning("rights", clause, "ask the project's administrator if you need more")
    return ok("rights", "nothing is known to be refused")


def of_clock(ahead_s: float) -> Finding:
    """`ahead_s`: by how much Procore's clock is ahead."""
    if abs(ahead_s) > CLOCK_ERROR_S:
        direction = "slow" if ahead_s > 0 else "fast"
        return warning("clock", f"it is {abs(ahead_s):.0f} s {direction}", "timedatectl set-ntp true")
    return ok("clock", "as Procore's")


def _budget(account: Account) -> Finding:
    folder = account.api.budget_dir
    key = budget_key(account.api.api_url, account.api.client_id)
    limit = known_hourly_limit(folder, key) if folder is not None else None
    if limit is None:
        return ok("budget", "the hourly limit is not known yet; 600 calls are assumed first")
    return ok("budget", f"{limit:,} calls an hour")
