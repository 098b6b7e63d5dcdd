"""The network that tests of several nodes run in: processes in one namespace reach another, until they are cut off."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tools.services import namespaces
from tools.services.link import Link, shape, unshape
from tools.services.network import Network, make_network
from tools.services.node import Node
from tools.services.service import Service

PORT = 8000


@pytest.fixture(scope="module")
def network(logs: Path) -> Iterator[Network]:
    """Two nodes, with a web server on the first."""
    with ExitStack() as cleanup:
        network = make_network("test", 2, cleanup)
        if not network.is_real:
            pytest.skip("no network namespaces here")
        node = network.nodes[0]
        command = node.inside(["python3", "-m", "http.server", str(PORT), "--bind", node.host])
        server = Service("web", command, logs / "web.log", environment={}, url=f"http://{node.host}:{PORT}")
        cleanup.callback(server.stop)
        server.wait_until(lambda: reaches(network.hub, node), 10)
        yield network


def reaches(caller: Node, server: Node) -> bool:
    """Whether the node gets an answer from the server within a second."""
    command = ["curl", "--silent", "--max-time", "1", "--output", "/dev/null", f"http://{server.host}:{PORT}/"]
    return subprocess.run(caller.inside(command), check=False).returncode == 0


def test_nodes_reach_each_other_until_a_direction_is_cut(network: Network) -> None:
    server, caller = network.nodes
    for sender, receiver in [(server, caller), (caller, server)]:
        assert reaches(caller, server)
        network.cut(sender, receiver)
        assert not reaches(caller, server)
        assert reaches(network.hub, server)
        network.heal(sender, receiver)
    assert reaches(caller, server)


def test_a_node_that_is_cut_off_reaches_nobody_until_it_joins_again(network: Network) -> None:
    server, caller = network.nodes
    network.cut_off(server)
    assert not reaches(caller, server)
    assert not reaches(network.hub, server)
    network.join(server)
    assert reaches(caller, server)


def test_a_slow_link_is_a_link(network: Network) -> None:
    server, caller = network.nodes
    assert "10 Gbit/s" in shape(network, Link(gigabits=10, milliseconds=1))
    assert reaches(caller, server)
    unshape(network)


def test_nothing_is_left_of_a_network_nor_of_what_ran_in_it() -> None:
    with ExitStack() as cleanup:
        network = make_network("ending", 1, cleanup)
        if not network.is_real:
            pytest.skip("no network namespaces here")
        forgotten = subprocess.Popen(network.nodes[0].inside(["sleep", "600"]))
    assert forgotten.wait(10) != 0
    assert not list(namespaces.NAMED.glob(f"{namespaces.name_of('ending', '')}*"))
    assert not Path(f"/sys/class/net/{namespaces.interface_of('ending')}").exists()
