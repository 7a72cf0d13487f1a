"""Hosts that an administrator allows, however they are spelled."""

import pytest

from tools.core.hosts import AllowedHosts, Host


@pytest.mark.parametrize(
    ("entry", "host", "address"),
    [
        ("ollama", Host("ollama"), "ollama"),
        (" Ollama:11434 ", Host("ollama", 11434), "ollama:11434"),
        ("my_model.local.", Host("my_model.local"), "my_model.local"),
        ("10.0.0.7:1", Host("10.0.0.7", 1), "10.0.0.7:1"),
        ("gpu:65535", Host("gpu", 65535), "gpu:65535"),
        ("::1", Host("::1"), "[::1]"),
        ("[::1]", Host("::1"), "[::1]"),
        ("[0:0::1]:8080", Host("::1", 8080), "[::1]:8080"),
        ("münchen.example", Host("xn--mnchen-3ya.example"), "xn--mnchen-3ya.example"),
    ],
)
def test_a_host_is_named_with_or_without_a_port(entry: str, host: Host, address: str) -> None:
    assert Host.parse(entry) == host
    assert str(host) == address
    assert Host.parse(address) == host


@pytest.mark.parametrize(
    "entry",
    [
        *(
            "http://localhost:1",
            "localhost/v1",
            "me@localhost",
            "two words",
            "*",
            "*.local",
            "-",
            ".",
            "[",
            "[]",
            "[::1",
        ),
        *("localhost:", "localhost:abc", "localhost:0", "localhost:65536", "localhost:99999", "localhost:-1", ":80"),
        *("::1:x", "[localhost]:80", "[127.0.0.1]", "[::1]8080", "[::1]:0", "a\x00b", "a:\u0661"),
    ],
)
def test_what_is_no_host_is_left_out_with_a_sentence(entry: str) -> None:
    allowed = AllowedHosts(["gpu", entry])
    assert allowed.hosts == [Host("gpu")]
    [problem] = allowed.problems
    assert problem.startswith(f"“{entry}” is no host. Write ")
    assert allowed.allow("gpu", 80)
    assert not allowed.allow(entry, 80)


def test_an_empty_entry_is_nothing() -> None:
    allowed = AllowedHosts(["", " "])
    assert (allowed.hosts, allowed.problems) == ([], [])
    assert not allowed.allow("", 80)


@pytest.mark.parametrize(
    ("entry", "host", "port"),
    [
        ("localhost", "LocalHost.", 1),
        ("Ollama:11434", "ollama", 11434),
        ("[::1]:8080", "0:0:0:0:0:0:0:1", 8080),
        ("::1", "[::1]", 443),
        ("xn--mnchen-3ya.example", "münchen.example", 443),
        ("127.0.0.1", "\uff11\uff12\uff17.0.0.1", 80),
    ],
)
def test_a_host_is_allowed_however_it_is_spelled(entry: str, host: str, port: int) -> None:
    assert AllowedHosts([entry]).allow(host, port)


@pytest.mark.parametrize(
    ("entry", "host", "port"),
    [
        ("ollama:11434", "ollama", 22),
        ("ollama", "ollama.example", 80),
        ("local", "my.local", 80),
        ("[::1]:8080", "::1", 80),
        ("127.0.0.1", "localhost", 80),
    ],
)
def test_no_other_host_or_port_is_allowed(entry: str, host: str, port: int) -> None:
    assert not AllowedHosts([entry]).allow(host, port)
