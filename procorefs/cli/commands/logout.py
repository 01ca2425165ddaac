"""`procorefs logout`: revokes the tokens of a profile at Procore and deletes them here."""

import os

import click
import msgspec

from procorefs.cli.support.terminal import say
from procorefs.config import Config, find_account, find_paths, read_config, write_config
from procorefs.config.secrets import forget_secret
from procorefs.procore.settings import ApiSettings, Grant


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
