"""Decides by a user's access level and granular rights what the user may do with the documents of a project.

(procore-api.md, What the caller may do)
"""

import enum

import msgspec


class Right(enum.Enum):
    """An act of the table, by the name of its granular right; empty: the level alone gives it."""

    READ = "read", ""
    WRITE = "write", ""
    DESCRIBE = "describe", ""
    END_CHECK_OUTS = "end check-outs", ""
    RENAME = "rename", "Rename Folders and Files"
    MOVE = "move", "Move and Copy Files and Folders"
    DELETE = "delete", "Delete Folders and Files"
    SET_PRIVATE = "set private", "Set Permissions"
    SEE_PRIVATE = "see private", "Access Private Folders and Files"
    SEE_BIN = "see the bin", "See Recycle Bin"

    @property
    def granular(self) -> str:
        return self.value[1]


GRANULAR = tuple(right.granular for right in Right if right.granular)

LEVEL_NAMES = {"admin": "Admin", "standard": "Standard", "read": "Read Only", "off": "None"}
"""Levels of the store, as Procore shows them."""

_BY_LEVEL = {
    "admin": frozenset(Right),
    "standard": frozenset({Right.READ, Right.WRITE}),
    "read": frozenset({Right.READ}),
    "off": frozenset[Right](),
}


class Role(msgspec.Struct, frozen=True):
    """One user in one project."""

    level: str
    actions: tuple[str, ...] = ()
    """Granular rights, by their names in the table."""

    def may(self, right: Right) -> bool:
        if right in _BY_LEVEL[self.level]:
            return True
        return self.level != "off" and right.granular in self.actions
