import numpy as np

from sficonv.faces.tracking import Tracker, look


def portrait(seed: int) -> np.ndarray:
    """Something with colours and shapes of its own."""
    blocks = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return blocks.repeat(32, axis=0).repeat(32, axis=1)


def face(x: float, y: float = 0, size: float = 100, who: int = 0):
    box = (x, y, x + size, y + size)
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]) * size + [x, y]
    return box, points, look(portrait(who))


def follow(frames, *, step=0.5, **options):
    tracker = Tracker(**options)
    numbers = []
    for i, faces in enumerate(frames):
        boxes, points, looks = zip(*faces, strict=True) if faces else ((), (), ())
        numbers.append(tracker.update(i * step, list(boxes), list(points), list(looks)))
    return numbers


def test_a_moving_face_keeps_its_number():
    assert follow([[face(40 * i)] for i in range(5)]) == [[0]] * 5


def test_two_people_keep_theirs_whatever_the_order_of_detection():
    frames = [[face(0), face(300)], [face(305), face(10)], [face(20), face(310)]]
    assert follow(frames) == [[0, 1], [1, 0], [0, 1]]


def test_a_fast_move_without_overlap_is_followed_by_its_landmarks():
    assert follow([[face(0)], [face(75)]]) == [[0], [0]]


def test_a_pan_is_followed_by_the_look():
    assert follow([[face(0)], [face(200)], [face(400)]]) == [[0]] * 3
    assert follow([[face(0, who=0)], [face(200, who=1)]]) == [[0], [1]]


def test_a_cut_to_another_person_in_the_same_place_ends_the_track():
    assert follow([[face(0, who=0)], [face(5, who=1)]]) == [[0], [1]]


def test_the_look_does_not_depend_on_brightness_and_contrast():
    crop = portrait(0)
    darker = (crop * 0.5 + 20).astype(np.uint8)
    assert look(crop) @ look(darker) > 0.99
    assert abs(look(crop) @ look(portrait(1))) < 0.3
    assert not look(np.full((40, 40, 3), 7, np.uint8)).any()


def test_a_jump_or_another_size_starts_a_new_track():
    assert follow([[face(0)], [face(500)]]) == [[0], [1]]
    assert follow([[face(0, size=100)], [face(0, size=30)]]) == [[0], [1]]


def test_a_short_gap_is_bridged_and_a_long_one_is_not():
    assert follow([[face(0)], [], [], [face(5)]]) == [[0], [], [], [0]]
    assert follow([[face(0)], [], [], [face(5)]], max_gap=1.0) == [[0], [], [], [1]]


def test_a_newcomer_does_not_take_the_place_of_a_better_partner():
    assert follow([[face(0)], [face(45), face(5)]]) == [[0], [1, 0]]


def test_degenerate_boxes_do_no_harm():
    empty = ((5.0, 5.0, 5.0, 5.0), np.zeros((5, 2)), look(portrait(0)))
    assert follow([[empty], [empty, face(0)]])[1][1] != follow([[empty]])[0][0]
