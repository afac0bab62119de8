"""Damaged files are answered: read, read in part, or refused; `benchmarks/fuzz_media.py` tries many more."""

from collections import Counter
from pathlib import Path

from benchmarks import fuzz_media


def test_every_mutated_file_is_answered(tmp_path: Path) -> None:
    files = fuzz_media.sound_images() | fuzz_media.sound_videos(tmp_path)
    counts: Counter[str] = Counter()
    for number, (form, data) in enumerate(sorted(files.items())):
        for again in range(2):
            _, bad = fuzz_media.mutated(data, fuzz_media.np.random.default_rng((7, number, again)))
            path = tmp_path / "file"
            path.write_bytes(bad)
            answer, message = fuzz_media.read(path)
            assert answer in fuzz_media.ANSWERS, (form, again, message)
            assert answer == "read" or str(path) in message
            counts[answer] += 1
    assert counts["read"] and counts["refused"]
