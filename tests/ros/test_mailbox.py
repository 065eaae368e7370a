from __future__ import annotations

import threading

from pose_node.ros.mailbox import Mailbox


def test_keeps_the_newest_and_says_what_it_replaced() -> None:
    mailbox: Mailbox[int] = Mailbox()
    assert mailbox.put("front", 1) is False
    assert mailbox.put("front", 2) is True
    assert mailbox.take() == {"front": 2}
    assert mailbox.put("front", 3) is False


def test_takes_the_newest_of_every_camera_at_once() -> None:
    mailbox: Mailbox[int] = Mailbox()
    for camera, item in [("front", 1), ("rear", 2), ("front", 3)]:
        mailbox.put(camera, item)
    assert mailbox.take() == {"front": 3, "rear": 2}


def test_take_waits_for_an_item() -> None:
    mailbox: Mailbox[int] = Mailbox()
    taken: list[dict[str, int]] = []
    taker = threading.Thread(target=lambda: taken.append(mailbox.take()))
    taker.start()
    mailbox.put("", 7)
    taker.join(timeout=10)
    assert taken == [{"": 7}]


def test_close_wakes_the_taker_and_drops_what_comes_later() -> None:
    mailbox: Mailbox[int] = Mailbox()
    taken: list[dict[str, int]] = []
    taker = threading.Thread(target=lambda: taken.append(mailbox.take()))
    taker.start()
    mailbox.close()
    taker.join(timeout=10)
    assert taken == [{}]
    assert mailbox.put("", 1) is False
    assert mailbox.take() == {}
