"""Which answer speaks for a document, whatever the order in which requests were queued, sent and answered."""

from procorefs.procore.wire.models import DocumentId
from procorefs.tree.request_order import RequestOrder

ONE, OTHER = DocumentId(1), DocumentId(2)


def test_a_read_on_its_way_beside_a_change_does_not_speak_for_the_document() -> None:
    order = RequestOrder()
    with order.reading() as before:
        before.sent()
        with order.changing(ONE) as change:
            change.sent()
            with order.reading() as meanwhile:
                meanwhile.sent()
                assert not order.admit(ONE, meanwhile)
                assert order.admit(OTHER, meanwhile)
        assert not order.admit(ONE, before)
    with order.reading() as after:
        after.sent()
        assert order.admit(ONE, after)


def test_a_change_counts_from_its_sending() -> None:
    order = RequestOrder()
    with order.changing(ONE) as change:
        with order.reading() as read:
            read.sent()
            assert order.admit(ONE, read)  # the change still waits for the budget
        change.sent()
        with order.reading() as read:
            read.sent()
            assert not order.admit(ONE, read)


def test_a_change_that_was_never_sent_takes_nobodys_word() -> None:
    order = RequestOrder()
    with order.reading() as read:
        read.sent()
        with order.changing(ONE):
            pass
        assert order.admit(ONE, read)


def test_a_read_counts_from_its_sending() -> None:
    order = RequestOrder()
    with order.reading() as queued:
        with order.changing(ONE) as change:
            change.sent()
        queued.sent()
        assert order.admit(ONE, queued)


def test_a_read_that_is_sent_again_counts_from_the_first_time() -> None:
    order = RequestOrder()
    with order.reading() as read:
        read.sent()
        with order.changing(ONE) as change:
            change.sent()
        read.sent()
        assert not order.admit(ONE, read)


def test_what_a_call_makes_is_known_from_its_answer_on() -> None:
    order = RequestOrder()
    with order.reading() as read:
        read.sent()
        with order.changing(None) as change:
            change.sent()
            order.is_about(change, ONE)
        assert not order.admit(ONE, read)


def test_of_two_reads_the_one_sent_later_counts() -> None:
    order = RequestOrder()
    with order.reading() as older, order.reading() as newer:
        older.sent()
        newer.sent()
        assert order.admit(ONE, newer)
        assert not order.admit(ONE, older)
        assert order.admit(OTHER, older)
        assert order.admit(OTHER, newer)


def test_nothing_is_remembered_longer_than_needed() -> None:
    order = RequestOrder()
    with order.reading() as old:
        old.sent()
        for number in range(100):
            with order.changing(DocumentId(number)) as change:
                change.sent()
        assert len(order.remembered) == 100
    assert not order.remembered
