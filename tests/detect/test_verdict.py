from dataclasses import replace

import pytest

from sficonv.detect.results import FaceScore
from sficonv.detect.verdict import judge_tracks, reasons_for_doubt, trimmed_mean


def faces(
    track: int, scores, *, size: float = 100, sharpness: float = 100, sure: float = 0.9
) -> list[FaceScore]:
    box = (0, 0, size, size + 20)
    return [FaceScore(i, i / 2, box, sure, sharpness, p, track) for i, p in enumerate(scores)]


def judge(*groups, video: bool = True):
    return judge_tracks([f for group in groups for f in group], min_face=40, video=video)


def test_the_mean_is_trimmed_from_ten_values_on():
    assert trimmed_mean([0, 0, 1]) == pytest.approx(1 / 3)
    assert trimmed_mean([1.0] + [0.2] * 9) == pytest.approx(0.2)
    assert trimmed_mean([1.0] + [0.2] * 8) == pytest.approx(2.6 / 9)


def test_of_twenty_values_the_two_at_either_end_are_left_out():
    values = [0.0, 0.1, *[0.3] * 8, *[0.5] * 8, 0.9, 1.0]
    assert trimmed_mean(values) == pytest.approx(0.4)
    assert trimmed_mean(values[::-1]) == pytest.approx(0.4)
    assert trimmed_mean([0.0, 0.1, *values[2:18], 0.9, 0.95, 1.0], share=0.1) == pytest.approx(
        (0.3 * 8 + 0.5 * 8 + 0.9) / 17
    )


def test_the_most_suspicious_person_decides():
    tracks = judge(faces(0, [0.1] * 5), faces(1, [0.8] * 4), faces(2, [0.3] * 5))
    assert [t.track for t in tracks] == [1, 2, 0]
    assert tracks[0].p_fake == pytest.approx(0.8)
    assert (tracks[0].first, tracks[0].last, tracks[0].frames) == (0.0, 1.5, 4)


def test_a_glimpse_does_not_decide_a_video():
    tracks = judge(faces(0, [0.2] * 3), faces(1, [0.99] * 2))
    assert tracks[0].track == 0
    assert not tracks[1].decides


def test_three_frames_are_enough_however_long_another_is_seen():
    tracks = judge(faces(0, [0.2] * 9), faces(1, [0.9] * 3))
    assert (tracks[0].track, tracks[0].decides) == (1, True)
    tracks = judge(faces(0, [0.2] * 9), faces(1, [0.9] * 2))
    assert (tracks[0].track, tracks[1].decides) == (0, False)


def test_but_it_does_where_nobody_was_seen_longer():
    assert judge(faces(0, [0.2]), faces(1, [0.9] * 2))[0].track == 1


def test_small_faces_do_not_decide_where_there_are_others():
    tracks = judge(faces(0, [0.99] * 5, size=20), faces(1, [0.3] * 5))
    assert (tracks[0].track, tracks[0].decides, tracks[1].decides) == (1, True, False)


def test_what_may_be_no_face_does_not_decide():
    assert judge(faces(0, [0.99] * 5, sure=0.75), faces(1, [0.3] * 5))[0].track == 1
    assert not judge(faces(0, [0.99] * 5, sure=0.75))[0].decides


def test_a_face_of_which_a_blur_left_nothing_does_not_decide():
    assert judge(faces(0, [0.99] * 5, sharpness=0.5), faces(1, [0.3] * 5))[0].track == 1
    assert judge(faces(0, [0.99] * 5, sharpness=2))[0].decides


@pytest.mark.parametrize(
    ("decides", "but"), [({"size": 40}, {"size": 39.9}), ({"sure": 0.8}, {"sure": 0.799}),
                         ({"sharpness": 1.0}, {"sharpness": 0.99})],
)  # fmt: skip
def test_who_just_reaches_a_limit_decides(decides, but):
    assert judge(faces(0, [0.9] * 3, **decides))[0].decides
    assert not judge(faces(0, [0.9] * 3, **but))[0].decides


@pytest.mark.parametrize(("good", "bad"), [(3, 2), (2, 3)])
@pytest.mark.parametrize("fault", [{"size": 39}, {"sure": 0.7}, {"sharpness": 0.5}])
def test_the_middle_of_a_person_s_faces_counts(good, bad, fault):
    mixed = [*faces(0, [0.9] * good), *faces(0, [0.9] * bad, **fault)]
    assert judge(mixed)[0].decides is (good > bad)


def test_of_equal_scores_the_first_seen_person_comes_first():
    tracks = judge(faces(2, [0.5] * 3), faces(0, [0.5] * 3), faces(1, [0.5] * 3))
    assert [t.track for t in tracks] == [0, 1, 2]


def test_in_an_image_every_face_of_some_size_counts():
    tracks = judge(faces(0, [0.2]), faces(1, [0.7]), video=False)
    assert tracks[0].p_fake == 0.7 and all(track.decides for track in tracks)


def test_nobody():
    assert judge() == ()


def notes(*groups, frames_sampled: int = 5, video: bool = True) -> str:
    everyone = [f for group in groups for f in group]
    tracks = judge(*groups, video=video)
    return " / ".join(
        reasons_for_doubt(everyone, tracks, min_face=40, frames_sampled=frames_sampled, video=video)
    )


def many_people(track: int, scores, **options) -> list[FaceScore]:
    """The faces of somebody with a number that is another object in each face."""
    return [replace(face, track=int(str(track))) for face in faces(track, scores, **options)]


def test_a_clear_case_has_no_notes():
    assert notes(faces(0, [0.9] * 5)) == ""


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (notes(faces(0, [0.9] * 5, size=30)), "5 of 5 faces are smaller than 40 px"),
        (notes(faces(0, [0.9] * 5, size=30)), "too degraded to judge (the face has 30 px, 40 are needed)"),
        (notes(faces(0, [0.9] * 5, sharpness=0.5)), "too degraded to judge (the face is blurred beyond use)"),
        (notes(faces(0, [0.9] * 5, sure=0.75)), "nobody can be judged reliably, so the verdict is left open"),
        (notes(faces(0, [0.9] * 5, sure=0.75)), "may not be a face"),
        (
            notes(faces(0, [0.9] * 5, sharpness=2)),
            "5 of 5 faces of the most suspicious person are heavily",
        ),
        (
            notes(faces(0, [0.9], sharpness=2), video=False),
            "the most suspicious face is heavily blurred",
        ),
        (notes(faces(0, [0.9] * 5), faces(1, [0.1] * 5)), "2 people were judged"),
        (notes(faces(0, [0.9] * 2)), "in only 2 of 5 sampled frames"),
        (notes(faces(0, [0.9] * 2), frames_sampled=2), "only 2 frames were looked at"),
        (notes(faces(0, [0.9]), frames_sampled=1), "only one frame was looked at"),
        (notes(faces(0, [0.9] * 5), frames_sampled=20), "in 5 of 20 sampled frames"),
    ],
)
def test_reasons_for_doubt(note, said):
    assert said in note


@pytest.mark.parametrize(
    ("note", "not_said"),
    [
        (notes(faces(0, [0.9] * 5, size=40)), "smaller than"),
        (notes(faces(0, [0.9] * 5, sharpness=4)), "blurred"),
        (notes([*faces(0, [0.9] * 2, sharpness=3.9), *faces(0, [0.9] * 2)], frames_sampled=4), "blurred"),
        (notes(faces(0, [0.9] * 5, sure=0.8)), "may not be a face"),
        (notes(faces(0, [0.9] * 5), faces(1, [0.1] * 2)), "people were judged"),
        (notes(faces(0, [0.9] * 5), faces(1, [0.1] * 2)), "left open"),
        (notes(faces(0, [0.9] * 5, sure=0.7)), "people were judged"),
        (notes(faces(1, [0.9] * 5), faces(2, [0.1] * 9, sharpness=2)), "blurred"),
        (notes(faces(1, [0.9] * 5), faces(0, [0.1] * 9, sharpness=2)), "blurred"),
        (notes(faces(0, [0.9] * 5, size=40, sure=0.7)), "are needed"),
        (notes(faces(0, [0.9] * 5, sharpness=1.0, sure=0.7)), "beyond use"),
        (notes(faces(0, [0.9] * 3), frames_sampled=3), "looked at"),
        (notes(faces(0, [0.9] * 3), frames_sampled=6), "sampled frames"),
        (notes(faces(0, [0.9]), frames_sampled=1, video=False), "one frame"),
    ],
)
def test_at_the_edge_a_doubt_is_not_raised(note, not_said):
    assert not_said not in note


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (
            notes([*faces(0, [0.9] * 3, sharpness=3.9), *faces(0, [0.9] * 2)]),
            "3 of 5 faces of the most suspicious person are heavily blurred",
        ),
        (notes(faces(0, [0.9] * 2, sharpness=2), faces(1, [0.1] * 5, sharpness=2)), "5 of 5 faces of the"),
        (notes(many_people(1000, [0.9] * 5, sharpness=2)), "5 of 5 faces of the most suspicious person"),
        (notes([*faces(0, [0.9] * 2, size=39), *faces(0, [0.9] * 3)]), "2 of 5 faces are smaller than 40 px"),
        (notes(faces(0, [0.9] * 3), frames_sampled=7), "in 3 of 7 sampled frames; the rest was not judged"),
        (notes(faces(0, [0.9] * 2), faces(1, [0.1] * 2), frames_sampled=3), "in only 2 of 3 sampled frames"),
        (notes(faces(0, [0.9] * 5, sharpness=0.99)), "the face is blurred beyond use"),
        (notes(faces(0, [0.9] * 5), faces(1, [0.1] * 3)), "2 people were judged and the most suspicious one"),
        (notes([*faces(0, [0.9] * 3, sure=0.7), *faces(0, [0.9] * 2)]), "what was judged may not be a face"),
    ],
)
def test_doubts_are_counted(note, said):
    assert said in note


def test_a_doubt_about_the_size_names_the_middle_one():
    sizes = [face for size in (10, 30, 39, 60) for face in faces(0, [0.9], size=size)]
    assert "the face has 34 px, 40 are needed" in notes(sizes)
    assert "needed" not in notes([face for size in (39, 41) for face in faces(0, [0.9], size=size)])


def test_nobody_seen_is_no_reason_for_doubt():
    assert reasons_for_doubt([], (), min_face=40, frames_sampled=5, video=True) == []
