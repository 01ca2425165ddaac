"""`procorefs projects`: lists the companies and projects of an account, with their ids for SPEC."""

import os

import click
import msgspec

from procorefs.cli.support.terminal import console, say_json
from procorefs.config import Account, find_account, find_paths, private_dir, read_config
from procorefs.procore.settings import ApiSettings
from procorefs.procore.wire.models import Company, Project
from procorefs.storage.printable import printable


class CompanyProjects(msgspec.Struct, frozen=True):
    """A company and its projects that can be mounted."""

    id: int
    name: str
    active: bool
    projects: list[Project]
    refused: str | None = None
    """Why its projects are unknown."""


@click.command(short_help="List the companies and projects that you can mount.")
@click.option("--profile", "-p", metavar="NAME", help="Default: the default profile, else the environment.")
@click.option("--json", "as_json", is_flag=True, help="A list of companies, each with its projects.")
def projects(profile: str | None, as_json: bool) -> None:
    """List the companies and projects that can be mounted; COMPANY/PROJECT ids are a SPEC."""
    paths = find_paths(os.environ)
    account = find_account(os.environ, read_config(paths.config_file), paths, profile)
    import trio

    private_dir(paths.tokens_dir)
    found = trio.run(_list, account.api)
    if as_json:
        say_json(found)
    else:
        _show(found, account)


async def _list(api: ApiSettings) -> list[CompanyProjects]:
    from procorefs.procore.api.client import Client, open_client
    from procorefs.procore.errors import Forbidden, NotFound

    async def of(client: Client, company: Company) -> CompanyProjects:
        try:
            listed, refused = await client.projects(company.id), None
        except (Forbidden, NotFound) as error:
            # A company that refuses this user must not hide the others.
            listed, refused = [], str(error)
        return CompanyProjects(company.id, company.name, company.active, listed, refused)

    async with open_client(api) as client:
        return [await of(client, company) for company in await client.companies()]


def _show(found: list[CompanyProjects], account: Account) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("SPEC", "COMPANY", "PROJECT", "NUMBER"):
        table.add_column(column, overflow="fold", no_wrap=column == "SPEC")
    prefix = f"{account.profile}:" if account.profile else ""
    for company in found:
        for project in company.projects:
            note = "" if company.active and project.active else " (inactive)"
            cells = (
                f"{prefix}{company.id}/{project.id}",
                company.name,
                f"{project.name}{note}",
                project.project_number,
            )
            # Names from Procore may contain markup of rich, and line breaks.
            table.add_row(*(Text(printable(cell)) for cell in cells))
    if table.row_count:
        out.print(table)
    for company in found:
        if not company.projects:
            reason = company.refused or "it has no project that you can see"
            out.print(Text(printable(f"{company.name} ({company.id}): {reason}")))
    if not found:
        out.print("You can reach no company; ask its administrator to connect the app or to invite the user.")
