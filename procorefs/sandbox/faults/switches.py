"""Switches of POST faults: what goes wrong, which dialect is spoken, what has expired, which rates hold."""

from typing import Any, TypeVar

import msgspec

from procorefs.sandbox.api.oauth_tokens import expire_access_tokens
from procorefs.sandbox.api.refusals import ApiError
from procorefs.sandbox.control.find_document import resolve
from procorefs.sandbox.faults.fault_rules import Rule
from procorefs.sandbox.fill import announcement
from procorefs.sandbox.project.invented_project import PROJECT_ID
from procorefs.sandbox.project.records import Json
from procorefs.sandbox.project.render import distortion
from procorefs.sandbox.state import Sandbox

T = TypeVar("T")


class Malformed(msgspec.Struct, forbid_unknown_fields=True):
    """Fields of a document's answers to replace; by id or path."""

    set: dict[str, Any]
    id: int | None = None
    path: str = ""


class Switches(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What POST faults takes; done in this order."""

    clear: bool = False
    """Nothing goes wrong any more, and the dialect is the default again."""
    settings: dict[str, Any] = {}
    """Fields of faults.Settings."""
    dialect: dict[str, Any] = {}
    """Fields of dialect.Dialect."""
    rules: list[Rule] = []
    malformed: list[Malformed] = []
    expire_tokens: bool = False
    revoke_refresh_tokens: bool = False
    expire_urls: bool = False
    hourly_calls: int | None = None
    spike_calls: int | None = None
    use_calls: int = 0
    """Calls that another program makes with the first client's id."""
    forget_calls: bool = False
    """All rate windows begin anew."""
    clock_shift_s: float | None = None
    release: bool = False
    do_late: bool = False
    """What a gateway gave up is done now."""


def switch(sandbox: Sandbox, switches: Switches) -> None:
    """Raises ApiError 400 for a switch that does not exist or has a wrong type."""
    faults = sandbox.faults
    if switches.clear:
        faults.clear()
        sandbox.dialect = sandbox.first_dialect()
        sandbox.clock.shift_s = 0.0
        sandbox.rates.hourly_calls = sandbox.config.hourly_calls
        sandbox.rates.spike_calls = sandbox.config.spike_calls
        sandbox.rates.forget()
    faults.settings = _changed(faults.settings, switches.settings)
    sandbox.dialect = _changed(sandbox.dialect, switches.dialect)
    for rule in switches.rules:
        faults.add(rule)
    for wish in switches.malformed:
        _distort(sandbox, wish)
    _expire(sandbox, switches)
    _set_rates(sandbox, switches)
    if switches.clock_shift_s is not None:
        sandbox.clock.shift_s = switches.clock_shift_s
    if switches.release:
        faults.release()


def _expire(sandbox: Sandbox, switches: Switches) -> None:
    if switches.expire_tokens:
        expire_access_tokens(sandbox)
    if switches.revoke_refresh_tokens:
        sandbox.store.execute("UPDATE tokens SET refreshed = 1")
    if switches.expire_urls:
        sandbox.urls.expire_all()


def _set_rates(sandbox: Sandbox, switches: Switches) -> None:
    if switches.hourly_calls is not None:
        sandbox.rates.hourly_calls = switches.hourly_calls
    if switches.spike_calls is not None:
        sandbox.rates.spike_calls = switches.spike_calls
    if switches.forget_calls:
        sandbox.rates.forget()
    if switches.use_calls:
        budget = sandbox.rates.budget(announcement(sandbox)["client_id"], sandbox.dialect.rate_windows)
        budget.use(sandbox.clock.now(), switches.use_calls)


def _distort(sandbox: Sandbox, wish: Malformed) -> None:
    project = sandbox.store.project(PROJECT_ID)
    assert project is not None
    document_id = wish.id if wish.id is not None else resolve(sandbox.store, project.root_id, wish.path)
    changes = sandbox.faults.malformed.setdefault(document_id, {})
    changes.update({name: distortion(value) for name, value in wish.set.items()})


def describe_faults(sandbox: Sandbox) -> Json:
    return {
        "settings": msgspec.to_builtins(sandbox.faults.settings),
        "dialect": msgspec.to_builtins(sandbox.dialect),
        "rules": msgspec.to_builtins(sandbox.faults.rules),
        "hourly_calls": sandbox.rates.hourly_calls,
        "spike_calls": sandbox.rates.spike_calls,
        "clock_shift_s": sandbox.clock.shift_s,
    }


def _changed(settings: T, changes: Json) -> T:
    """The same struct with other values, checked. Raises ApiError 400."""
    try:
        return msgspec.convert({**msgspec.to_builtins(settings), **changes}, type(settings))
    except msgspec.ValidationError as error:
        raise ApiError(400, str(error)) from error
