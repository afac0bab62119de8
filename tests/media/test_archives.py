"""Archives of face sequences: read in place, and what harmful or damaged ones may not do."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sficonv.errors import MediaError
from sficonv.media.archives import list_archive, read_archive


def png(value: int, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (value, value, value)).save(buffer, "png")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(("name", "mode"), [("0.tar.gz", "w:gz"), ("0.tgz", "w:gz"), ("0.tar", "w")])
def test_frames_are_read_in_one_pass(tmp_path: Path, name: str, mode: str) -> None:
    members = {f"./0/real/103/{i}.png": png(i) for i in range(20)}
    path = write_tar(tmp_path / name, {**members, "0/readme.txt": b"x"}, mode)
    names, problem = list_archive(path)
    assert names == list(members) and problem == ""
    got = {
        name: (frame.index, int(frame.image[0, 0, 0])) for name, frame in read_archive(path, names[3:18:7])
    }
    assert got == {f"./0/real/103/{i}.png": (i, i) for i in (3, 10, 17)}
    assert list(tmp_path.iterdir()) == [path]  # nothing was unpacked beside it


def test_unsafe_members_are_left_out_and_named(tmp_path: Path) -> None:
    names = ("../out.png", "/etc/out.png", "a/../../out.png", "C:\\out.png", "..\\out.png")
    path = write_tar(tmp_path / "in" / "0.tar.gz", {name: png(1) for name in (*names, "0/real/1/1.png")})
    with tarfile.open(path.with_name("1.tar"), "w") as archive:
        link = tarfile.TarInfo("0/real/1/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        device = tarfile.TarInfo("0/real/1/device.png")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    found, problem = list_archive(path)
    assert found == ["0/real/1/1.png"] and "5 members" in problem and "../out.png" in problem
    found, problem = list_archive(path.with_name("1.tar"))
    assert found == [] and "2 members" in problem
    with pytest.raises(MediaError, match="not in the archive"):
        list(read_archive(path.with_name("1.tar"), ["0/real/1/link.png"]))
    assert sorted(p.name for p in tmp_path.rglob("*.png")) == []


def test_bombs_are_refused(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("0/real/1/1.png")
    huge.size = 10**12
    with gzip.open(tmp_path / "claim.tar.gz", "wb") as file:
        file.write(huge.tobuf())
    with pytest.raises(MediaError, match="no face image"):
        list_archive(tmp_path / "claim.tar.gz")
    header = tarfile.TarInfo("0/real/1/1.png")
    header.size = 60 * 2**20
    with gzip.open(tmp_path / "grows.tar.gz", "wb", compresslevel=1) as file:
        for _ in range(3):
            file.write(header.tobuf())
            for _ in range(60):
                file.write(bytes(2**20))
    with pytest.raises(MediaError, match="far more than its size"):
        list_archive(tmp_path / "grows.tar.gz")
    pax = tarfile.TarInfo("x")
    pax.type, pax.size = tarfile.XHDTYPE, 200 * 2**20
    with gzip.open(tmp_path / "header.tar.gz", "wb", compresslevel=1) as file:
        file.write(pax.tobuf())
        for _ in range(100):
            file.write(bytes(2**20))
    with pytest.raises(MediaError, match="far more than its size"):
        list_archive(tmp_path / "header.tar.gz")


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_a_truncated_archive_gives_what_came_before(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    members = {}
    for i in range(8):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, "png")
        members[f"0/fake/5/{i}.png"] = buffer.getvalue()
    whole = write_tar(tmp_path / "whole.tar", members, mode).read_bytes()
    path = tmp_path / "part.tar"
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        names, problem = list_archive(path)
        assert 0 < len(names) <= 8 and "damaged or truncated" in problem
        with pytest.raises(MediaError, match="damaged|no image|truncated"):
            list(read_archive(path, list(members)))


@pytest.mark.parametrize(
    "content", [b"", b"not an archive", b"\x1f\x8b\x08", gzip.compress(b"x" * 2000, mtime=0)]
)
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.tar.gz").write_bytes(content)
    names, problem = list_archive(tmp_path / "0.tar.gz")
    assert names == [] and "damaged or truncated" in problem


def test_damage_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", {f"0/real/1/{i}.png": png(i) for i in range(6)}, "w")
    data = bytearray(path.read_bytes())
    data[2 * 1024 : 2 * 1024 + 200] = b"\xff" * 200  # the header of the third
    path.write_bytes(bytes(data))
    names, problem = list_archive(path)
    assert len(names) == 2 and "damaged" in problem


def test_missing_and_broken_members(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot be opened"):
        list_archive(tmp_path / "none.tar")
    path = write_tar(tmp_path / "0.tar", {"0/real/1/1.png": b"text", "0/real/1/2.png": b""})
    with pytest.raises(MediaError, match=r"0.tar: 0/real/1/1.png: .*text"):
        list(read_archive(path, ["0/real/1/1.png"]))
    with pytest.raises(MediaError, match="empty"):
        list(read_archive(path, ["0/real/1/2.png"]))
