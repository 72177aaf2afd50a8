"""Requests reach what the policy allows, whatever the address is dressed as."""

import socket
from ipaddress import ip_network

import pytest

from holdfast.core.errors import EgressDeniedError, HostNotFoundError, NetworkError
from holdfast.net.egress import OWN_MACHINE, PUBLIC_ONLY, Egress, reachable

PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "::ffff:8.8.8.8"]
NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "169.254.170.2",
    "fe80::1",
    "fe80::1%1",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "2001:0:4136:e378:8000:63bf:5601:5601",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "ff02::1",
    "::ffff:0.0.0.0",
]
LOOPBACK = [
    "127.0.0.1",
    "127.255.255.254",
    "::1",
    "::ffff:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "2002:7f00:1::",
]
PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:10.0.0.1",
    "64:ff9b::192.168.0.1",
    "2002:a00:1::",
    "0.1.2.3",
]


def at(*addresses):
    return lambda _host, _port: addresses


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reachable(address):
    """Under each policy."""
    for egress in (PUBLIC_ONLY, OWN_MACHINE):
        assert reachable(egress, "host", 443, lookup=at(address)) == [address]


@pytest.mark.parametrize("address", NEVER)
def test_link_local_and_metadata_are_never_reachable(address):
    """Whatever the policy allows beside."""
    everything = Egress(
        loopback=True, private=True, allowed=(ip_network("0.0.0.0/0"), ip_network("::/0"))
    )
    for egress in (PUBLIC_ONLY, OWN_MACHINE, everything):
        with pytest.raises(EgressDeniedError):
            reachable(egress, "host", 443, lookup=at(address))


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_is_for_ones_own_machine(address):
    """And for nobody on whose behalf a server acts."""
    assert reachable(OWN_MACHINE, "host", 80, lookup=at(address)) == [address]
    with pytest.raises(EgressDeniedError):
        reachable(PUBLIC_ONLY, "host", 80, lookup=at(address))
    with pytest.raises(EgressDeniedError):
        reachable(Egress(private=True), "host", 80, lookup=at(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_private_networks_need_leave(address):
    """Not reachable unless the policy says so."""
    assert reachable(OWN_MACHINE, "host", 80, lookup=at(address)) == [address]
    with pytest.raises(EgressDeniedError):
        reachable(PUBLIC_ONLY, "host", 80, lookup=at(address))


def test_allowed_networks_are_reachable_and_their_neighbours_not():
    """An administrator opens one network, and only that."""
    egress = Egress(allowed=(ip_network("10.1.0.0/16"),))
    assert reachable(egress, "host", 80, lookup=at("10.1.2.3")) == ["10.1.2.3"]
    with pytest.raises(EgressDeniedError):
        reachable(egress, "host", 80, lookup=at("10.2.2.3"))


def test_only_the_permitted_of_several_addresses_are_given():
    """A name with one good and one forbidden address leads to the good one alone."""
    found = reachable(PUBLIC_ONLY, "host", 80, lookup=at("10.0.0.1", "8.8.8.8", "fe80::1"))
    assert found == ["8.8.8.8"]


@pytest.mark.parametrize(
    "host",
    ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "[::1]".strip("[]"), "0"],
)
def test_spellings_of_this_machine_are_seen_through(host):
    """The real resolver reads them as it does for a connection."""
    with pytest.raises(EgressDeniedError):
        reachable(PUBLIC_ONLY, host, 80)


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 300, "two..dots", ""])
def test_names_without_address_are_errors(host):
    """Told as what they are, and not to be tried again."""
    with pytest.raises(HostNotFoundError) as caught:
        reachable(OWN_MACHINE, host, 80, lookup=at() if not host else None)
    assert not caught.value.retryable


def test_silent_name_server_is_worth_another_try(monkeypatch):
    """That nobody answers is not that there is no such host."""

    def silent(*_, **__):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    with pytest.raises(NetworkError) as caught:
        reachable(OWN_MACHINE, "host", 80)
    assert caught.value.retryable
