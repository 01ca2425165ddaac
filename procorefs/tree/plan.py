"""When to look and what a look's numbers mean: decisions without I/O."""

from dataclasses import dataclass

OVERLAP_S = 5
"""A look goes back this far before the newest change known: Procore's times are whole seconds, and a change may become
visible a little after its time."""

LOOK_PAGE = 100
"""Documents a page of a look: what every endpoint grants, and hardly more than one round trip to parse."""

LISTING_PAGE = 2000
"""Documents a page of a full listing: the most that Procore's general advice allows; it may grant fewer."""


@dataclass(frozen=True, slots=True)
class Census:
    """What is known of the project's size when a look has been absorbed."""

    live: int
    """Documents in our rows that count as existing."""
    hidden: int
    """Those of them below something deleted: a server may list them or not."""
    newly_deleted: int
    """Documents deleted since the surplus was learnt: a server may list them or not."""
    surplus: int
    """What the list's total counted beyond the live documents when it was last complete: root, bin, deleted ones."""


def reconciles(total: int, census: Census) -> bool:
    """Whether the list's total is explained by what we know, under any of the ways a server may count deleted ones."""
    beyond = total - census.surplus - census.live
    return beyond in {
        0,
        -census.hidden,
        census.newly_deleted,
        census.newly_deleted - census.hidden,
    }


def complete(seen: int, refused: int, first_total: int | None, last_total: int | None) -> bool:
    """Whether a full listing missed nothing: entries that move up a page while it runs are skipped by the paging."""
    if first_total is None or last_total is None:
        return True
    return first_total == last_total and seen + refused >= last_total


def look_is_due(now_s: float, last_look_s: float | None, freshness_s: float) -> bool:
    return last_look_s is None or now_s - last_look_s > freshness_s
