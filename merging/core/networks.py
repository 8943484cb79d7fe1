"""Under which addresses others in a network reach this machine."""

import ipaddress
import socket


def own_networks() -> list[str]:
    """IPv4 addresses of this machine in networks, the one towards everything else first."""
    import psutil

    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = [
        one.address
        for name, addresses in psutil.net_if_addrs().items()
        if name in up
        for one in addresses
        if one.family == socket.AF_INET and not ipaddress.ip_address(one.address).is_loopback
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as towards:
        try:
            towards.connect(("192.0.2.1", 9))  # an address for examples; nothing is sent to it
            first = str(towards.getsockname()[0])
        except OSError:
            return found
    return sorted(found, key=lambda one: one != first)
