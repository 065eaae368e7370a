"""Images fit into the input as the trainer places them, and points come back where they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose_node.inference.letterbox import PADDING_GREY, Letterbox

SIDES = st.integers(1, 5000)


@given(height=SIDES, width=SIDES, stride=st.sampled_from([32, 64]))
def test_points_come_back_where_they_were(height: int, width: int, stride: int) -> None:
    box = Letterbox.fit(height, width, image_size=640, stride=stride)
    corners = np.array(
        [
            [box.left, box.top],
            [box.left + box.scaled_width, box.top + box.scaled_height],
        ],
        np.float32,
    )
    expected = np.array([[0, 0], [width, height]])
    np.testing.assert_allclose(box.to_image(corners), expected, rtol=1e-6, atol=1e-3)


@given(height=SIDES, width=SIDES, stride=st.sampled_from([32, 64]))
def test_the_input_is_as_small_as_the_stride_allows(height: int, width: int, stride: int) -> None:
    box = Letterbox.fit(height, width, image_size=640, stride=stride)
    assert box.width % stride == box.height % stride == 0
    assert max(box.width, box.height) == 640
    right = box.width - box.left - box.scaled_width
    bottom = box.height - box.top - box.scaled_height
    assert 0 <= box.left <= right <= box.left + 1 < stride
    assert 0 <= box.top <= bottom <= box.top + 1 < stride


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((720, 1280), (640, 384, 640, 360, 0, 12)),
        ((480, 640), (640, 480, 640, 480, 0, 0)),
        ((1080, 810), (480, 640, 480, 640, 0, 0)),
        ((427, 640), (640, 448, 640, 427, 0, 10)),
        ((40, 6000), (640, 32, 640, 4, 0, 14)),
        ((1, 1), (640, 640, 640, 640, 0, 0)),
    ],
)
def test_known_sizes(size: tuple[int, int], expected: tuple[int, ...]) -> None:
    box = Letterbox.fit(*size, image_size=640, stride=32)
    found = (box.width, box.height, box.scaled_width, box.scaled_height, box.left, box.top)
    assert found == expected


def test_the_canvas_is_overwritten_completely() -> None:
    box = Letterbox.fit(50, 101, image_size=128, stride=32)
    canvas = np.full((box.height, box.width, 3), 7, np.uint8)
    box.draw(np.full((50, 101, 3), 200, np.uint8), canvas)
    inside = np.zeros(canvas.shape[:2], bool)
    inside[box.top : box.top + box.scaled_height, box.left : box.left + box.scaled_width] = True
    assert (canvas[inside] == 200).all()
    assert (canvas[~inside] == PADDING_GREY).all()


def test_padded_rows_do_not_show() -> None:
    padded = np.full((50, 120, 3), 9, np.uint8)
    padded[:, :101] = np.arange(101, dtype=np.uint8)[:, None]
    box = Letterbox.fit(50, 101, image_size=128, stride=32)
    canvases = [np.empty((box.height, box.width, 3), np.uint8) for _ in range(2)]
    box.draw(padded[:, :101], canvases[0])
    box.draw(padded[:, :101].copy(), canvases[1])
    np.testing.assert_array_equal(canvases[0], canvases[1])


def test_top_left_and_rounded_down() -> None:
    """As YOLOX has it."""
    box = Letterbox.fit(333, 500, image_size=640, stride=32, input_size=(640, 640), centred=False)
    assert (box.left, box.top, box.width, box.height) == (0, 0, 640, 640)
    assert (box.scaled_width, box.scaled_height) == (640, int(333 * 1.28))


def test_a_fixed_input_that_is_not_square() -> None:
    box = Letterbox.fit(100, 400, image_size=640, stride=32, input_size=(192, 320))
    assert (box.width, box.height) == (320, 192)
    assert (box.scaled_width, box.scaled_height) == (320, 80)
    assert (box.left, box.top) == (0, 56)
    np.testing.assert_allclose(box.to_image(np.array([[160.0, 96.0]], np.float32)), [[200, 50]])
