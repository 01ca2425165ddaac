"""Asks Procore once for the names of the project and its company, and stores them with the tree."""

import logging

import trio

from procorefs.limiter import Priority
from procorefs.procore.api.client import Client
from procorefs.procore.errors import ProcoreError
from procorefs.tree.tree_store import TreeStore

log = logging.getLogger(__name__)

COMPANY_DELAY_S = 60.0
"""The list of projects need not name the company; then a later call asks for it, when no program waits."""


class DisplayNames:
    """The names of project and company for `status`. A name that Procore does not give stays empty."""

    def __init__(self, client: Client, store: TreeStore) -> None:
        self._client = client
        self._store = store

    @property
    def project(self) -> str:
        return str(self._store.fact("project_name") or "")

    @property
    def company(self) -> str:
        return str(self._store.fact("company_name") or "")

    async def learn(self) -> None:
        """Look the project up; its item may name the company too."""
        try:
            project = await self._client.project(priority=Priority.INTERACTIVE)
        except ProcoreError as error:
            log.info("The project's name is not known: %s", error)
            return
        if project is not None:
            self._remember("project_name", project.name)
            self._remember("company_name", project.company_name)

    async def complete(self, listed: trio.Event) -> None:
        """After the project is listed, ask for the company's name if it is unknown."""
        await listed.wait()
        if self.company:
            return
        await trio.sleep(COMPANY_DELAY_S)
        try:
            self._remember("company_name", await self._client.company_name(priority=Priority.REFRESH))
        except ProcoreError as error:
            log.info("The company's name is not known: %s", error)

    def _remember(self, fact: str, name: str) -> None:
        with self._store.transaction():
            self._store.remember(fact, name or None)
