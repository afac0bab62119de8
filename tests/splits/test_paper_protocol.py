"""What the paper says it takes of each dataset (section IV-A), number by number."""

from fractions import Fraction

import pytest

from sficonv.splits.paper_protocol import PAPER, paper_sampling

SAID = {  # distance of frames and frames of a video, each real and fake; images of each label; videos
    "ffpp": ((2, 2), (50, 16), 60_000, Fraction(1, 6), None),
    "dfdc": ((2, 10), (35, 5), 60_000, Fraction(1, 6), (2_891, 20_210)),
    "celebdf": ((2, 2), (100, 16), 60_000, Fraction(1), None),
    "hff": (None, (1, 1), None, Fraction(1, 5), None),
}


@pytest.mark.parametrize("name", SAID)
def test_frames_images_and_videos_are_the_papers(name):
    given = paper_sampling(name)
    assert (given.n_iter, given.n_frames, given.each, given.test, given.videos) == SAID[name]


def test_no_data_set_is_left_out():
    assert {sampling.names[0] for sampling in PAPER} == set(SAID)


def test_the_papers_text_says_so(shared):
    text = " ".join((shared / "paper" / "sficonv_paper.txt").read_text(encoding="utf-8").split())
    ffpp = text[text.index("FF++ [35]: As the most") :][:1000]
    assert "real video sequences, the face images are extracted from each video with interval" in ffpp
    assert "$N_{iter} = 2$ and frame number $N_{frames} = 50$" in ffpp
    assert "For fake video sequences, the $N_{iter} = 2$ and $N_{frames} = 16$" in ffpp
    assert "(real: 60k, fake: 60k)" in ffpp and "training set to testing set is 5:1" in ffpp
    dfdc = text[text.index("DFDC [36]: It is") :][:700]
    assert "2,891 real video sequences and 20,210 fake video sequences" in dfdc
    assert "set to 2 and 35, respectively" in dfdc
    assert "$N_{iter} = 10$ and $N_{frames} = 5$" in dfdc
    assert "(real: 60k, fake: 60k)" in dfdc and "the testing set with the ratio of 5:1" in dfdc
    celebdf = text[text.index("CelebDF [37]: It is") :][:700]
    assert "$N_{iter} = 2$ and $N_{frames} = 100$ to extract face images from each real" in celebdf
    assert "$N_{iter} = 2$ and $N_{frames} = 16$ to extract fake" in celebdf
    assert "(real: 60k, fake: 60k)" in celebdf and "for cross-dataset evaluation" in celebdf
    hff = text[text.index("HFF [31]: It is") :][:1500]
    assert "divided into training set and testing set with the ratio of 4:1" in hff
