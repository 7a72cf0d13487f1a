"""Requests go to the public internet only, whatever name leads elsewhere."""

import ipaddress

import httpx2
import pytest

from tools.core.http import GuardedTransport, RefusedAddress, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",  # shared by a provider's customers
        "100.100.100.200",  # Alibaba's metadata
        "169.254.169.254",  # everybody else's
        "168.63.129.16",  # Azure's
        "192.0.0.192",  # Oracle's
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%1",
        "fec0::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",  # 127.0.0.1 through NAT64
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",  # 127.0.0.1 through 6to4
        "2002:a00:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
        "2001:db8::1",
    ],
)
def test_an_address_inside_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::"]
)
def test_an_address_outside_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "localhost.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0x7f.1",
        "2130706433",
        "0177.1",
        "127.1",
    ],
)
async def test_no_spelling_of_this_machine_is_reached(host: str) -> None:
    async with httpx2.AsyncClient(transport=GuardedTransport(), trust_env=False) as client:
        with pytest.raises(RefusedAddress, match="An administrator can allow it"):
            await client.get(f"http://{host}:9/")


@pytest.mark.parametrize("allowed", ["::1", "[::1]:9", "[0:0::1]:9"])
async def test_an_allowed_host_is_reached_however_it_is_spelled(allowed: str) -> None:
    async with httpx2.AsyncClient(transport=GuardedTransport([allowed]), trust_env=False) as client:
        with pytest.raises(httpx2.ConnectError):  # Not RefusedAddress: it was asked, and nobody listens.
            await client.get("http://[::1]:9/")


async def test_a_host_that_is_not_found_says_so() -> None:
    async with httpx2.AsyncClient(transport=GuardedTransport(), trust_env=False) as client:
        with pytest.raises(httpx2.ConnectError, match=r"nowhere\.invalid cannot be found"):
            await client.get("http://nowhere.invalid/")
