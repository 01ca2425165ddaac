"""What the environment and a profile say together: how to reach Procore and as whom. The environment wins."""

import hashlib
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from procorefs.config.failure import ConfigError
from procorefs.config.paths import Paths
from procorefs.config.profiles import PASTED_CODE, Config, Grant, Profile
from procorefs.config.secrets import Secret, load_secret
from procorefs.config.spec import as_id


class Account(msgspec.Struct, frozen=True):
    """Everything that authorising needs; `repr` shows no secret."""

    #: None: the environment alone
    profile: str | None
    api_url: str
    login_url: str
    client_id: str
    client_secret: Secret
    grant: Grant
    redirect_uri: str
    #: where the tokens of this account are kept between runs
    token_file: Path
    #: defaults for a SPEC that is left out; id or name
    company: str | None = None
    project: str | None = None


def find_account(
    environment: Mapping[str, str], config: Config, paths: Paths, profile: str | None = None
) -> Account:
    """The account meant by `profile`, or by nothing. Raises ConfigError when it is incomplete."""
    chosen = config.chosen(profile)
    if chosen is not None and chosen not in config.profiles:
        raise ConfigError(f"there is no profile '{chosen}'; run: procorefs login --profile {chosen}")
    stored = config.profiles[chosen] if chosen is not None else Profile()
    client_id = environment.get("PROCOREFS_CLIENT_ID") or stored.client_id
    secret_given = environment.get("PROCOREFS_CLIENT_SECRET")
    if not client_id:
        raise ConfigError(
            "it is not known who you are at Procore; run `procorefs login`, or set PROCOREFS_CLIENT_ID and "
            "PROCOREFS_CLIENT_SECRET"
        )
    login_url = checked_url(environment.get("PROCOREFS_LOGIN_URL") or stored.login_url, "login URL")
    grant = Grant.CLIENT_CREDENTIALS if secret_given else stored.grant
    return Account(
        profile=chosen,
        api_url=checked_url(environment.get("PROCOREFS_API_URL") or stored.api_url, "API URL"),
        login_url=login_url,
        client_id=client_id,
        client_secret=Secret(secret_given)
        if secret_given
        else _stored_secret(paths, chosen, stored, client_id),
        grant=grant,
        redirect_uri=stored.redirect_uri if grant is Grant.AUTHORIZATION_CODE else PASTED_CODE,
        token_file=token_file(paths, login_url, client_id, grant, chosen),
        company=environment_id(environment, "PROCOREFS_COMPANY_ID") or stored.company,
        project=environment_id(environment, "PROCOREFS_PROJECT_ID") or stored.project,
    )


def token_file(paths: Paths, login_url: str, client_id: str, grant: Grant, profile: str | None) -> Path:
    """Tokens belong to login host, client id and grant; a person's also to the profile that logged in."""
    owner = (profile or "") if grant is Grant.AUTHORIZATION_CODE else ""
    key = "\0".join((login_url, client_id, grant.value, owner))
    return paths.tokens_dir / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def checked_url(text: str, what: str) -> str:
    """The base URL without its last slash. Raises ConfigError; http is for loopback hosts alone."""
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


def is_loopback(host: str) -> bool:
    """Does this host name mean the machine itself?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def environment_id(environment: Mapping[str, str], variable: str) -> str | None:
    """The id in a PROCOREFS_…_ID variable, or None when unset. Raises ConfigError for anything but an id."""
    text = environment.get(variable, "").strip()
    if text and as_id(text) is None:
        raise ConfigError(f"{variable} is '{text}'; it must be an id, that is a number")
    return text or None


def _stored_secret(paths: Paths, name: str | None, profile: Profile, client_id: str) -> Secret:
    secret = None
    # a secret belongs to the client id it was stored with, not to another one from the environment
    if name is not None and profile.client_id == client_id:
        secret = load_secret(paths, name, profile.secret_in)
    if secret is None:
        raise ConfigError(
            f"there is no secret for client id '{client_id}'; run `procorefs login`, or set "
            "PROCOREFS_CLIENT_SECRET"
        )
    return secret
