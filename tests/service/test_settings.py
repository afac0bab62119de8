from pathlib import Path

import pytest

from sficonv.service.command import _names
from sficonv.service.settings import Settings


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("192.168.1.5", False),
        ("box", False),
    ],
)
def test_loopback(host, own):
    assert Settings(Path("x"), host=host, allowed_hosts=("box.example",)).on_loopback is own


def test_results_are_kept_for_a_day():
    assert Settings(Path("x")).keep_hours == 24


def test_hosts():
    assert "evil.example" not in Settings(Path("x")).hosts
    assert "box.example" in Settings(Path("x"), allowed_hosts=("box.example",)).hosts
    open_to_all = Settings(Path("x"), host="0.0.0.0", allowed_hosts=("box.example",))
    assert open_to_all.hosts == ["127.0.0.1", "localhost", "[::1]", "box.example"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_a_service_on_all_addresses_must_be_told_its_names(host):
    with pytest.raises(ValueError, match="--allowed-hosts"):
        Settings(Path("x"), host=host)


@pytest.mark.parametrize(
    "option",
    [{"workers": 0}, {"max_upload": 0}, {"time_limit": -1}, {"keep_hours": 0}, {"port": 70000},
     {"token": "short"}, {"token": "with\na line break in it"}],
)  # fmt: skip
def test_settings_that_make_no_sense(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        Settings(Path("x"), **option)


def test_addresses_of_ipv6_stand_in_brackets_as_in_the_header():
    assert "[fd00::5]" in Settings(Path("x"), host="fd00::5").hosts
    assert {"[fd00::6]", "[::7]"} < {*Settings(Path("x"), allowed_hosts=("fd00::6", "[::7]")).hosts}


@pytest.mark.parametrize("name", ["http://box.example", "box.example:8000", "192.168.1.5:80", "*box", ""])
def test_what_can_match_no_host_is_refused(name):
    with pytest.raises(ValueError, match="without http:// and port"):
        Settings(Path("x"), allowed_hosts=(name,))


def test_hosts_may_have_spaces_between_them():
    assert _names("box.example, 192.168.1.5,") == ("box.example", "192.168.1.5")
