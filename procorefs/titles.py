"""The names of project and company, asked of Procore once in the life of a tree and then remembered with it."""

import logging
from collections.abc import Awaitable

from procorefs.limiter import Priority
from procorefs.procore.client import Client
from procorefs.procore.errors import ProcoreError
from procorefs.tree.store import TreeStore

log = logging.getLogger(__name__)

_PROJECT, _COMPANY = "project_name", "company_name"


def project_name(store: TreeStore) -> str:
    """The project's name, empty as long as nobody told it."""
    return str(store.fact(_PROJECT) or "")


def company_name(store: TreeStore) -> str:
    """The company's name, empty as long as nobody told it."""
    return str(store.fact(_COMPANY) or "")


async def learn_project_name(client: Client, store: TreeStore) -> None:
    await _learn(store, _PROJECT, client.project_name(priority=Priority.INTERACTIVE))


async def learn_company_name(client: Client, store: TreeStore) -> None:
    await _learn(store, _COMPANY, client.company_name(priority=Priority.REFRESH))


async def _learn(store: TreeStore, fact: str, asking: Awaitable[str]) -> None:
    """A name that can't be had is no reason not to mount: it stays empty and is asked for at the next mount."""
    try:
        name = await asking
    except ProcoreError as error:
        log.info("A name that only status shows is not known: %s", error)
        return
    with store.transaction():
        store.remember(fact, name)
