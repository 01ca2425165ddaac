"""Why a change is refused at once; each becomes one errno at the kernel's side."""

from procorefs.tree.naming.name_rules import Refusal


class ChangeRefused(Exception):
    """A change that can't be; nothing was changed. The text says why, and does not repeat the path.

    `path`: what it is about, where that is not what the request named; empty: it is.
    """

    def __init__(self, why: str = "", *, path: str = "") -> None:
        super().__init__(why)
        self.path = path


class NameRefused(ChangeRefused):
    """Procore, or Linux, does not take the name."""

    def __init__(self, path: str, refusal: Refusal) -> None:
        super().__init__(str(refusal), path=path)
        self.rule = refusal.rule


class Exists(ChangeRefused):
    """There is such an entry already."""


class Reserved(ChangeRefused):
    """The entry is the mount's own."""


class NoSuchEntry(ChangeRefused):
    """There is no such entry."""


class NotEmpty(ChangeRefused):
    """The folder holds something, or nobody knows yet what."""


class IsAFolder(ChangeRefused):
    """A file was expected."""


class NotAFolder(ChangeRefused):
    """A folder was expected."""


class IntoItself(ChangeRefused):
    """A folder can't be moved into itself."""


class NotPermitted(ChangeRefused):
    """Procore has it read-only, or it is no thing that can be changed."""


class NotSupported(ChangeRefused):
    """Documents have no such thing: links, devices."""


class HeldByOther(ChangeRefused):
    """Somebody else has the document checked out."""
