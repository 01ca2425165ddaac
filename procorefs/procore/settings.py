"""Where Procore is and as whom we speak to it."""

import enum
from pathlib import Path

import msgspec

from procorefs.procore.wire.models import CompanyId, ProjectId

OUT_OF_BAND = "urn:ietf:wg:oauth:2.0:oob"
"""The login page shows the code and the person pastes it."""


class Grant(enum.Enum):
    """How the first token is got."""

    CLIENT_CREDENTIALS = "client_credentials"
    AUTHORIZATION_CODE = "authorization_code"
    """By `login`; from then on by refresh tokens."""


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One account at one Procore. The secret is in no repr; `token_dir` None keeps tokens in memory alone.

    `account` tells apart several people who log in through one client id (the profile's name).
    """

    api_url: str = "https://api.procore.com"
    login_url: str = "https://login.procore.com"
    client_id: str
    client_secret: str
    company_id: CompanyId | None = None
    project_id: ProjectId | None = None
    grant: Grant = Grant.CLIENT_CREDENTIALS
    account: str = ""
    redirect_uri: str = OUT_OF_BAND
    token_dir: Path | None = None
    """Of the state directory: shared by all processes of this user."""
    budget_dir: Path | None = None
    """The same for the calls they may make."""
    login_shared_at: str = ""
    """Address of the Redis through which hosts with the same login renew it."""
    use_keyring: bool = False
    silence_s: float = 30.0
    """No byte for so long: the server is silent."""
    patience_s: float = 30.0
    """A passing failure is retried for at most so long."""

    def __repr__(self) -> str:
        return (
            f"ApiSettings(api_url={self.api_url!r}, client_id={self.client_id!r}, account={self.account!r})"
        )

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("api_url", self.api_url), ("client_id", self.client_id)]
