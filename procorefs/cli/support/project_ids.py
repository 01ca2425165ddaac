"""Finds the ids of the company and project in SPEC; ids in SPEC need no call."""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from procorefs.config import Account, ConfigError, Failure, Spec
from procorefs.config.account import company_id_in
from procorefs.config.spec import as_id
from procorefs.procore.wire.models import CompanyId, ProjectId

if TYPE_CHECKING:
    from procorefs.procore.api.client import Client


class UnknownProject(Failure):
    """No company or project has this name, or several have it."""


class _Named(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)

_LISTED = "`procorefs projects` lists those that you can mount"


def wanted(spec: Spec | None, account: Account) -> tuple[str, str]:
    """Company and project, id or name, from SPEC or else the account. Raises ConfigError if neither names them."""
    company = (spec and spec.company) or account.company
    project = (spec and spec.project) or account.project
    if not company or not project:
        raise ConfigError(
            "no project is named; write COMPANY/PROJECT before the mount point, or set "
            "PROCOREFS_COMPANY_ID and PROCOREFS_PROJECT_ID (`procorefs projects` lists them)"
        )
    return company, project


def find_ids(account: Account, company: str, project: str) -> tuple[CompanyId, ProjectId]:
    """The ids of both; asks Procore only about names. Raises UnknownProject, ProcoreError."""
    company_id, project_id = as_id(company), as_id(project)
    if company_id is not None and project_id is not None:
        return CompanyId(company_id), ProjectId(project_id)
    import trio  # here: ids need neither trio nor the client

    return trio.run(_look_up, account, company, project)


async def _look_up(account: Account, company: str, project: str) -> tuple[CompanyId, ProjectId]:
    from procorefs.procore.api.client import open_client

    api = msgspec.structs.replace(account.api, company_id=company_id_in(company) or account.api.company_id)
    async with open_client(api) as client:
        company_id = await _company_id(client, company)
        project_id = as_id(project)
        if project_id is None:
            projects = await client.projects(company_id)
            names = [(candidate, (candidate.name, candidate.display_name)) for candidate in projects]
            project_id = one_named(project, names, f"project of company {company}").id
        return company_id, ProjectId(project_id)


async def _company_id(client: "Client", company: str) -> CompanyId:
    known = as_id(company)
    if known is not None:
        return CompanyId(known)
    names = [(candidate, (candidate.name,)) for candidate in await client.companies()]
    return one_named(company, names, "company").id


async def check_reachable(
    client: "Client", company: str, project: str | None
) -> tuple[CompanyId, ProjectId | None]:
    """Ask Procore for a company and its project, ids or names; the ids. Raises UnknownProject, ProcoreError."""
    companies = [(candidate, (candidate.name,)) for candidate in await client.companies()]
    company_id = _one_meant(company, companies, "company").id
    if project is None:
        return company_id, None
    projects = [
        (candidate, (candidate.name, candidate.display_name))
        for candidate in await client.projects(company_id)
    ]
    return company_id, _one_meant(project, projects, f"project of company {company}").id


def _one_meant(text: str, candidates: Sequence[tuple[N, Iterable[str]]], what: str) -> N:
    """The candidate with this id, or else with this name. Raises UnknownProject."""
    known = as_id(text)
    if known is None:
        return one_named(text, candidates, what)
    for item, _ in candidates:
        if item.id == known:
            return item
    raise UnknownProject(f"you can reach no {what} with the id {known}; {_LISTED}")


def one_named(name: str, candidates: Sequence[tuple[N, Iterable[str]]], what: str) -> N:
    """The candidate with this name; ignores case only if no name is equal. Raises UnknownProject."""
    for fold in (_as_written, _folded):
        found = [item for item, names in candidates if fold(name) in {fold(text) for text in names}]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(str(item.id) for item in found)
            raise UnknownProject(f"there is more than one {what} called '{name}'; give one of the ids {ids}")
    raise UnknownProject(f"there is no {what} called '{name}'; {_LISTED}")


def _as_written(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def _folded(text: str) -> str:
    return _as_written(text).casefold()
