"""The settings of a client: which Procore, company and project, and which login."""

import enum
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from procorefs.procore.wire.models import CompanyId, ProjectId

OUT_OF_BAND = "urn:ietf:wg:oauth:2.0:oob"
"""The login page shows the code, and the person pastes it."""


class Grant(enum.Enum):
    """How the first token is obtained."""

    CLIENT_CREDENTIALS = "client_credentials"
    AUTHORIZATION_CODE = "authorization_code"
    """By `login`; later tokens by refresh tokens."""


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One account at one Procore. The secret is in no repr."""

    api_url: str = "https://api.procore.com"
    login_url: str = "https://login.procore.com"
    client_id: str
    client_secret: str
    company_id: CompanyId | None = None
    project_id: ProjectId | None = None
    grant: Grant = Grant.CLIENT_CREDENTIALS
    account: str = ""
    """The profile's name: several people may log in through one client id."""
    redirect_uri: str = OUT_OF_BAND
    token_dir: Path | None = None
    """In the state directory, shared by all processes of this user; None: tokens stay in memory."""
    budget_dir: Path | None = None
    """The same for the call budget."""
    calls_per_hour: int = 0
    """Calls that Procore grants per hour; 0: found out."""
    login_shared_at: str = ""
    """The address of the Redis through which hosts with the same login renew it."""
    use_keyring: bool = False
    silence_s: float = 30.0
    """After this time without a byte the server counts as silent."""
    retry_for_s: float = 30.0
    """A passing failure is tried again for this long at most."""

    def __repr__(self) -> str:
        return (
            f"ApiSettings(api_url={self.api_url!r}, client_id={self.client_id!r}, account={self.account!r})"
        )

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("api_url", self.api_url), ("client_id", self.client_id)]


def documents_page(login_url: str, project_id: ProjectId) -> str:
    """The page of a project's Documents tool in a browser; empty: this Procore has none that is known.

    Procore's documentation names no address for a single document.
    """
    host = urlsplit(login_url).hostname or ""
    label, _, domain = host.partition(".")
    if domain != "procore.com" or not label.startswith("login"):
        return ""
    return f"https://{label.removeprefix('login').lstrip('-') or 'app'}.procore.com/{project_id}/project/documents"
