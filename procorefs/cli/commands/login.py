"""`procorefs login` and `logout`: try credentials and store them as a profile, and revoke its tokens.

`login` stores nothing before Procore has accepted the credentials. A secret is typed without echo, or comes from a file
or the environment, because every user can see the arguments of a process.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import msgspec

from procorefs.cli.support.project_ids import UnknownProject, check_reachable
from procorefs.cli.support.terminal import say
from procorefs.config import (
    Config,
    ConfigError,
    Paths,
    Profile,
    find_account,
    find_paths,
    private_dir,
    read_config,
    write_config,
)
from procorefs.config.account import checked_url, company_id_in
from procorefs.config.secrets import forget_secret, load_secret, read_secret_file, store_secret
from procorefs.config.spec import PROFILE_NAME
from procorefs.procore.http.addresses import is_loopback
from procorefs.procore.settings import OUT_OF_BAND, ApiSettings, Grant
from procorefs.storage.processes import forget_secrets

if TYPE_CHECKING:
    from procorefs.procore.api.client import Client
    from procorefs.procore.wire.models import Me

DEFAULT_REDIRECT = "http://127.0.0.1:8910/callback"


class Asked(msgspec.Struct, frozen=True):
    """The options of `login`; None: not given."""

    profile: str | None
    client_id: str | None
    secret_file: Path | None
    browser: bool
    paste: bool
    redirect_uri: str | None
    api_url: str | None
    login_url: str | None
    company: str | None
    project: str | None


@click.command(short_help="Create a profile: try credentials and store them.")
@click.option("--profile", "-p", metavar="NAME", help="The profile to create or renew. Default: 'default'.")
@click.option(
    "--client-id", metavar="ID", help="Client id of the app or service account; asked for if not given."
)
@click.option(
    "--secret-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File with the client secret, mode 0600. Default: PROCOREFS_CLIENT_SECRET, else login asks.",
)
@click.option("--browser", is_flag=True, help="Log in as a person, in a browser (authorization code).")
@click.option("--paste", is_flag=True, help="Like --browser, but Procore shows a code to paste here.")
@click.option(
    "--redirect-uri", metavar="URI", help=f"With --browser, as registered. Default: {DEFAULT_REDIRECT}"
)
@click.option("--api-url", metavar="URL", help="Default: https://api.procore.com")
@click.option("--login-url", metavar="URL", help="Default: https://login.procore.com")
@click.option("--company", metavar="ID|NAME", help="What `mount` shows when SPEC is left out.")
@click.option("--project", metavar="ID|NAME", help="What `mount` shows when SPEC is left out.")
def login(
    profile: str | None,
    client_id: str | None,
    secret_file: Path | None,
    browser: bool,
    paste: bool,
    redirect_uri: str | None,
    api_url: str | None,
    login_url: str | None,
    company: str | None,
    project: str | None,
) -> None:
    """Try credentials, and store them as a profile.

    Without --browser or --paste the credentials are those of a service account (client credentials).
    """
    if browser and paste:
        raise click.UsageError("--browser and --paste exclude each other; give one of them")
    asked = Asked(
        profile, client_id, secret_file, browser, paste, redirect_uri, api_url, login_url, company, project
    )
    paths = find_paths(os.environ)
    config = read_config(paths.config_file)
    name = asked.profile if asked.profile is not None else config.chosen(None) or "default"
    if not PROFILE_NAME.fullmatch(name):
        raise ConfigError(f"'{name}' cannot name a profile; use letters, digits, - _ .")
    made = make_profile(asked, config.profiles.get(name, Profile()))
    secret = _secret(asked, paths, name, made, config.profiles.get(name))
    is_project_said = asked.company is not None or asked.project is not None
    who, clause = _try(made, secret, name, paths, checks_project=is_project_said)
    _keep(paths, config, name, made, secret)
    say(f"Logged in as {who}. The profile '{name}' is in {paths.config_file}.")
    say("`procorefs projects` lists its projects.")
    if clause:
        say(f"{clause[0].upper()}{clause[1:]}.")


def make_profile(asked: Asked, old: Profile) -> Profile:
    """The profile from the options, else the environment, else the old profile. Raises ConfigError."""
    by_person = asked.browser or asked.paste
    if asked.project and not (asked.company or old.company):
        raise ConfigError("a project belongs to a company; give --company as well as --project")
    redirect_uri = _redirect_uri(asked) if by_person else OUT_OF_BAND
    client_id = asked.client_id or os.environ.get("PROCOREFS_CLIENT_ID") or old.client_id or _ask("Client id")
    api_url = asked.api_url or os.environ.get("PROCOREFS_API_URL") or old.api_url
    login_url = asked.login_url or os.environ.get("PROCOREFS_LOGIN_URL") or old.login_url
    return msgspec.structs.replace(
        old,
        client_id=client_id,
        grant=Grant.AUTHORIZATION_CODE if by_person else Grant.CLIENT_CREDENTIALS,
        api_url=checked_url(api_url, "API URL"),
        login_url=checked_url(login_url, "login URL"),
        company=asked.company or old.company,
        project=asked.project or old.project,
        redirect_uri=redirect_uri,
    )


def _redirect_uri(asked: Asked) -> str:
    if asked.paste:
        return OUT_OF_BAND
    uri = asked.redirect_uri or DEFAULT_REDIRECT
    try:
        parts = urlsplit(uri)
        leads_here = parts.scheme == "http" and is_loopback(parts.hostname or "")
    except ValueError:
        leads_here = False
    if not leads_here:
        raise ConfigError(
            f"the redirect URI '{uri}' does not lead to this machine; write http://127.0.0.1:PORT/PATH"
        )
    checked_url(uri, "redirect URI")
    return uri


def _secret(asked: Asked, paths: Paths, name: str, made: Profile, old: Profile | None) -> str:
    if asked.secret_file is not None:
        return read_secret_file(asked.secret_file)
    given = os.environ.get("PROCOREFS_CLIENT_SECRET")
    if given:
        return given
    kept = load_secret(paths, name, old.secret_in) if old and old.client_id == made.client_id else None
    if kept is not None and made.grant is Grant.AUTHORIZATION_CODE:
        return kept  # a person logs in again with the secret of the app
    return _ask("Client secret", hidden=True)


def _ask(what: str, *, hidden: bool = False) -> str:
    """Ask at the terminal; without one, read a line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt(what, hide_input=hidden, err=True)).strip()
    line = sys.stdin.readline().strip()
    if not line:
        raise ConfigError(
            f"no {what.lower()} was given and there is no terminal to ask; see `procorefs login --help`"
        )
    return line


def _try(made: Profile, secret: str, name: str, paths: Paths, *, checks_project: bool) -> tuple[str, str]:
    """Log in and return the user's name, and what the account may not do in the project, as a clause.

    Raises ProcoreError, LoginNotFinished, UnknownProject.
    """
    import trio

    by_person = made.grant is Grant.AUTHORIZATION_CODE
    api = ApiSettings(
        api_url=made.api_url,
        login_url=made.login_url,
        client_id=made.client_id,
        client_secret=secret,
        company_id=company_id_in(made.company),
        grant=made.grant,
        account=name if by_person else "",
        redirect_uri=made.redirect_uri,
        token_dir=paths.tokens_dir,
        budget_dir=paths.budgets_dir,
    )
    private_dir(paths.tokens_dir)
    me, clause = trio.run(_log_in, api, made.company if checks_project else None, made.project)
    if me is None:
        return "a user without a name", clause
    return me.name or me.login or f"user {me.id}", clause


async def _log_in(api: ApiSettings, company: str | None, project: str | None) -> "tuple[Me | None, str]":
    """The user (None: Procore accepts the login but does not give the user), and what the account may not do."""
    from procorefs.cli.support.login_redirect import LoginNotFinished
    from procorefs.procore.api.client import REFUSALS, open_client
    from procorefs.procore.auth.token_renewal import new_verifier
    from procorefs.procore.errors import LoginRefused

    async with open_client(api) as client:
        if api.grant is Grant.AUTHORIZATION_CODE:
            verifier = new_verifier()
            code = await _code(client, api.redirect_uri, verifier)
            try:
                await client.auth.login_by_code(code, verifier)
            except LoginRefused as error:
                raise LoginNotFinished(f"{error}; run `procorefs login` again for another code") from error
        try:
            me = await client.me()
        except REFUSALS:
            me = None  # the login itself was accepted
        return me, await _check(client, company, project) if company else ""


async def _check(client: "Client", company: str, project: str | None) -> str:
    """Check that the account can reach the company and project, and say what it may not do. Raises UnknownProject."""
    from procorefs.procore.errors import ProcoreError
    from procorefs.procore.wire.rights import restriction

    try:
        company_id, project_id = await check_reachable(client, company, project)
    except UnknownProject as error:
        raise UnknownProject(f"{error}, after a login without --company and --project") from error
    if project_id is None:
        return ""
    try:
        return restriction(await client.rights((company_id, project_id)))
    except ProcoreError:
        return ""  # unknown: what is not allowed is refused when it is tried


async def _code(client: "Client", redirect_uri: str, verifier: str) -> str:
    from procorefs.cli.support.login_redirect import receive_code
    from procorefs.procore.auth.token_renewal import new_state

    state = new_state()
    url = client.auth.authorization_url(state, verifier)
    if redirect_uri == OUT_OF_BAND:
        say("Open this address, log in, and paste the code that it shows:", url, to_stderr=True)
        # Nothing else runs in this loop, so it may block.
        return _ask("Code")
    return await receive_code(redirect_uri, state, lambda: _show(url))


def _show(url: str) -> None:
    say("Log in at this address; the browser then returns here by itself:", url, to_stderr=True)
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        forget_secrets()  # they were read before
        click.launch(url)


def _keep(paths: Paths, config: Config, name: str, made: Profile, secret: str) -> None:
    place = store_secret(paths, name, secret)
    profiles = {**config.profiles, name: msgspec.structs.replace(made, secret_in=place)}
    kept = msgspec.structs.replace(config, default_profile=config.default_profile or name, profiles=profiles)
    write_config(paths.config_file, kept)


@click.command(short_help="Revoke and delete the tokens of a profile.")
@click.option("--profile", "-p", metavar="NAME", help="Default: the default profile, else the environment.")
@click.option("--forget", is_flag=True, help="Delete the stored secret and the profile too.")
def logout(profile: str | None, forget: bool) -> None:
    """Revoke the tokens of a profile at Procore and delete them here.

    The secret of a service account stays, so the next command logs in again; --forget deletes it too.
    """
    paths = find_paths(os.environ)
    config = read_config(paths.config_file)
    account = find_account(os.environ, config, paths, profile)
    import trio

    try:
        # Delete local tokens first, so that they are deleted even if Procore is unreachable.
        trio.run(_log_out, account.api)
    finally:
        if forget and account.profile is not None:
            forget_secret(paths, account.profile, config.profiles[account.profile].secret_in)
            write_config(paths.config_file, _without(config, account.profile))
    whose = f"profile '{account.profile}'" if account.profile else "the account of the environment"
    stays = account.profile and not forget and account.api.grant is Grant.CLIENT_CREDENTIALS
    # A service account logs in again without a person.
    say(f"Logged out {whose}" + ("; its secret stays here (--forget deletes it)." if stays else "."))


async def _log_out(api: ApiSettings) -> None:
    from procorefs.procore.api.client import open_client

    async with open_client(api) as client:
        await client.auth.logout()


def _without(config: Config, name: str) -> Config:
    profiles = {other: profile for other, profile in config.profiles.items() if other != name}
    default = config.default_profile if config.default_profile != name else None
    return msgspec.structs.replace(config, default_profile=default, profiles=profiles)
