"""Finds the account: the URLs and credentials from a profile and the environment, which takes precedence."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from procorefs.config.paths import Paths
from procorefs.config.profiles import Config, Profile, SecretPlace
from procorefs.config.secrets import load_secret, read_secret_file
from procorefs.config.spec import as_id
from procorefs.procore.http.addresses import is_loopback
from procorefs.procore.settings import OUT_OF_BAND, ApiSettings, Grant
from procorefs.procore.wire.models import CompanyId
from procorefs.storage.failures import ConfigError


class Account(msgspec.Struct, frozen=True):
    """What a login needs, and what to mount without SPEC."""

    profile: str | None
    """None: only the environment."""
    api: ApiSettings
    """With the company if its id is known, without a project; its repr contains no secret."""
    company: str | None = None
    """Id or name."""
    project: str | None = None


def find_client(environment: Mapping[str, str], config: Config) -> tuple[str, str] | None:
    """API URL and client id of the default account; reads no secret."""
    stored = config.profiles.get(config.chosen(None) or "", Profile())
    client_id = environment.get("PROCOREFS_CLIENT_ID") or stored.client_id
    api_url = environment.get("PROCOREFS_API_URL") or stored.api_url
    return (checked_url(api_url, "API URL"), client_id) if client_id else None


def find_account(
    environment: Mapping[str, str], config: Config, paths: Paths, profile: str | None = None
) -> Account:
    """The account of `profile`, or the default account. Raises ConfigError if it is incomplete."""
    chosen = config.chosen(profile)
    if chosen is not None and chosen not in config.profiles:
        raise ConfigError(f"there is no profile '{chosen}'; run: procorefs login --profile {chosen}")
    stored = config.profiles[chosen] if chosen is not None else Profile()
    client_id = environment.get("PROCOREFS_CLIENT_ID") or stored.client_id
    secret = _secret_in(environment)
    if not client_id:
        raise ConfigError(
            "no account is configured; run `procorefs login`, or set PROCOREFS_CLIENT_ID and "
            "PROCOREFS_CLIENT_SECRET"
        )
    grant = Grant.CLIENT_CREDENTIALS if secret else stored.grant
    by_person = grant is Grant.AUTHORIZATION_CODE
    company = environment_id(environment, "PROCOREFS_COMPANY_ID") or stored.company
    api = ApiSettings(
        api_url=checked_url(environment.get("PROCOREFS_API_URL") or stored.api_url, "API URL"),
        login_url=checked_url(environment.get("PROCOREFS_LOGIN_URL") or stored.login_url, "login URL"),
        client_id=client_id,
        company_id=company_id_in(company),
        client_secret=secret or _stored_secret(paths, chosen, stored, client_id),
        grant=grant,
        # Several people may log in through one client id; a service account is the same in every profile.
        account=chosen or "" if by_person else "",
        redirect_uri=stored.redirect_uri if by_person else OUT_OF_BAND,
        token_dir=paths.tokens_dir,
        budget_dir=paths.budgets_dir,
        calls_per_hour=0 if stored.calls_per_hour == "auto" else stored.calls_per_hour,
        use_keyring=stored.secret_in is SecretPlace.KEYRING,
    )
    return Account(
        profile=chosen,
        api=api,
        company=company,
        project=environment_id(environment, "PROCOREFS_PROJECT_ID") or stored.project,
    )


def company_id_in(text: str | None) -> CompanyId | None:
    """The company if `text` is an id; None for a name or no text."""
    known = as_id(text) if text else None
    return None if known is None else CompanyId(known)


def checked_url(text: str, what: str) -> str:
    """The base URL without its last slash. Raises ConfigError, also for http to a host that is not loopback."""
    try:
        parts = urlsplit(text.strip())
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        raise ConfigError(f"the {what} '{text}' is not a URL; write https://HOST") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_good:
        raise ConfigError(f"the {what} '{text}' is not a URL; write https://HOST")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(f"the {what} may hold no user name, query or fragment; write https://HOST")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigError(
            f"the {what} '{text}' is not encrypted; write https:// (http is for loopback hosts)"
        )
    return text.strip().rstrip("/")


def environment_id(environment: Mapping[str, str], variable: str) -> str | None:
    """The id in a PROCOREFS_…_ID variable; None: it is not set. Raises ConfigError if the value is no id."""
    text = environment.get(variable, "").strip()
    if text and as_id(text) is None:
        raise ConfigError(f"{variable} is '{text}'; it must be an id (a number)")
    return text or None


def _secret_in(environment: Mapping[str, str]) -> str | None:
    """The client secret of the environment, or of the file that it names."""
    file = environment.get("PROCOREFS_CLIENT_SECRET_FILE")
    return environment.get("PROCOREFS_CLIENT_SECRET") or (read_secret_file(Path(file)) if file else None)


def _stored_secret(paths: Paths, name: str | None, profile: Profile, client_id: str) -> str:
    secret = None
    # A secret belongs to the client id that it was stored with, not to another one from the environment.
    if name is not None and profile.client_id == client_id:
        secret = load_secret(paths, name, profile.secret_in)
    if secret is None:
        raise ConfigError(
            f"there is no secret for client id '{client_id}'; run `procorefs login`, or set "
            "PROCOREFS_CLIENT_SECRET"
        )
    return secret
