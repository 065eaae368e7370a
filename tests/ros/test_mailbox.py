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


def test_cameras_take_turns() -> None:
    """However fast one is, whoever has waited longest comes first, with the newest image."""
    mailbox: Mailbox[int] = Mailbox()
    for camera, item in [("fast", 1), ("slow", 2), ("fast", 3), ("fast", 4)]:
        mailbox.put(camera, item)
    assert mailbox.take(most=1) == {"fast": 4}
    mailbox.put("fast", 5)
    assert mailbox.take(most=1) == {"slow": 2}
    assert mailbox.take(most=1) == {"fast": 5}


def test_the_window_ends_when_all_cameras_are_there() -> None:
    mailbox: Mailbox[int] = Mailbox()
    taken: list[dict[str, int]] = []
    taker = threading.Thread(target=lambda: taken.append(mailbox.take(window=1e6, cameras=2)))
    taker.start()
    mailbox.put("front", 1)
    mailbox.put("front", 2)
    mailbox.put("rear", 3)
    taker.join(timeout=10)
    assert taken == [{"front": 2, "rear": 3}]


def test_a_dead_camera_holds_nobody_up() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put("front", 1)
    assert mailbox.take(window=1e-3, cameras=2) == {"front": 1}
    mailbox.put("front", 2)
    assert mailbox.take(most=1, window=1e6, cameras=2) == {"front": 2}
