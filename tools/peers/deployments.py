"""How each system is brought up on this machine, all with a pool of the same size; each says how it is measured."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tools.checkout import LOGS
from tools.failure import Failure
from tools.peers import environments
from tools.services.ports import HOST, free_ports
from tools.services.service import Service, accepts

POOL_MEGABYTES = 2048
READY_SECONDS = 60
PEER_LOGS = LOGS / "peers"


@dataclass(frozen=True)
class Driver:
    """The program that runs the workload: a module of `tools.peers.stores`, with the Python and words it needs."""

    system: str
    module: str
    python: Path
    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """A system, and how to bring it up: `start` gets what ends it and a folder for files, and returns drivers."""

    name: str
    start: Callable[[ExitStack, Path], list[Driver]]


def start_chariot(cleanup: ExitStack, folder: Path) -> list[Driver]:
    """A data worker, in the foreground as the others."""
    python = environments.python_with_chariot()
    [port] = free_ports(1)
    address = f"{HOST}:{port}"
    worker = serve(
        cleanup,
        "chariot",
        [python.parent / "dscli", "start", "-w", "--foreground", "--worker_address", address,
         "--shared_memory_size_mb", str(POOL_MEGABYTES), "--log_dir", folder],
    )  # fmt: skip
    worker.wait_until(lambda: accepts(port), READY_SECONDS)
    return [Driver("Chariot", "chariot", python, [address])]


def start_mooncake_service(cleanup: ExitStack, folder: Path) -> list[Driver]:
    """A service that holds the memory, shared with clients on its host: the arrangement that is most like ours."""
    python, master = start_mooncake_master(cleanup)
    port, http_port = free_ports(2)
    service = serve(
        cleanup,
        "mooncake-service",
        [mooncake_programs(python) / "mooncake_client", "-master_server_address", master,
         "-metadata_server", "P2PHANDSHAKE", "-host", HOST, "-port", str(port),
         "-http_port", str(http_port), "-global_segment_size", f"{POOL_MEGABYTES}MB"],
        environments.debian_libraries(),
    )  # fmt: skip
    service.wait_until(lambda: accepts(port), READY_SECONDS)
    words = ["service", f"{HOST}:{port}"]
    return [Driver("Mooncake, service", "mooncake", python, words, environments.debian_libraries())]


def start_mooncake_in_process(cleanup: ExitStack, folder: Path) -> list[Driver]:
    """A client that holds the memory in its own process: nothing but the master is elsewhere."""
    python, master = start_mooncake_master(cleanup)
    words = ["in-process", master]
    return [Driver("Mooncake, in process", "mooncake", python, words, environments.debian_libraries())]


def start_mooncake_master(cleanup: ExitStack) -> tuple[Path, str]:
    """The process that knows what is where: the Python that has Mooncake, and the master's address."""
    python = environments.python_with("mooncake", "mooncake-transfer-engine-non-cuda==0.3.13.post1")
    # Its build without CUDA is linked against the library of another kind of device all the same.
    environments.ensure_debian("libibverbs1", "libnl-3-200", "libnl-route-3-200")
    port, metrics_port = free_ports(2)
    master = serve(
        cleanup,
        "mooncake-master",
        [mooncake_programs(python) / "mooncake_master", "-rpc_address", HOST, "-rpc_port", str(port),
         "-metrics_port", str(metrics_port)],
        environments.debian_libraries(),
    )  # fmt: skip
    master.wait_until(lambda: accepts(port), READY_SECONDS)
    return python, f"{HOST}:{port}"


def mooncake_programs(python: Path) -> Path:
    """Where the package has them; the ones in `bin` are wrappers."""
    return environments.packages_folder(python) / "mooncake"


def start_yuanrong(cleanup: ExitStack, folder: Path) -> list[Driver]:
    """A worker and the etcd that it cannot do without; clients of two kinds."""
    python = environments.python_with("yuanrong", "openyuanrong-datasystem==0.8.1")
    environments.ensure_debian("etcd-server")
    etcd_port, etcd_peer_port, port = free_ports(3)
    etcd_url = f"http://{HOST}:{etcd_port}"
    etcd = serve(
        cleanup,
        "yuanrong-etcd",
        [environments.debian_program("etcd"), "--data-dir", folder / "etcd",
         "--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url,
         "--listen-peer-urls", f"http://{HOST}:{etcd_peer_port}"],
    )  # fmt: skip
    etcd.wait_until(lambda: accepts(etcd_port), READY_SECONDS)
    programs = environments.packages_folder(python) / "yr" / "datasystem"
    worker = serve(
        cleanup,
        "yuanrong-worker",
        [programs / "datasystem_worker", f"--worker_address={HOST}:{port}", f"--etcd_address={HOST}:{etcd_port}",
         f"--shared_memory_size_mb={POOL_MEGABYTES}", f"--log_dir={folder / 'logs'}",
         f"--unix_domain_socket_dir={folder / 'uds'}", f"--rocksdb_store_dir={folder / 'rocksdb'}",
         f"--ready_check_path={folder / 'ready'}", f"--health_check_path={folder / 'health'}"],
        {"LD_LIBRARY_PATH": str(programs / "lib"), "HOME": str(folder)},
        directory=folder,
    )  # fmt: skip
    worker.wait_until((folder / "ready").exists, READY_SECONDS)
    # Its client writes its logs below the home directory.
    home = {"HOME": str(folder)}
    return [
        Driver("openYuanrong", "yuanrong", python, [HOST, str(port), "default"], home),
        Driver("openYuanrong, exclusive", "yuanrong", python, [HOST, str(port), "exclusive"], home),
    ]


def start_redis(cleanup: ExitStack, folder: Path) -> list[Driver]:
    """A server on a Unix socket that writes nothing to disk."""
    python = environments.python_with("redis", "redis==8.1.0", "hiredis==3.5.0")
    environments.ensure_debian(
        "redis-server", "redis-tools", "libjemalloc2", "liblzf1", "liblua5.1-0", "lua-bitop", "lua-cjson"
    )
    socket = folder / "redis.sock"
    server = serve(
        cleanup,
        "redis",
        [environments.debian_program("redis-server"), "--port", "0", "--unixsocket", socket, "--save", "",
         "--appendonly", "no", "--dir", folder, "--maxmemory", f"{POOL_MEGABYTES}mb"],
        environments.debian_libraries(),
    )  # fmt: skip
    server.wait_until(socket.exists, READY_SECONDS)
    return [Driver("Redis", "redis", python, [str(socket)])]


CHARIOT = Peer("Chariot", start_chariot)
PEERS = (
    Peer("Mooncake, service", start_mooncake_service),
    Peer("Mooncake, in process", start_mooncake_in_process),
    Peer("openYuanrong", start_yuanrong),
    Peer("Redis", start_redis),
)


def serve(
    cleanup: ExitStack,
    name: str,
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Service:
    """A server that `cleanup` ends."""
    if not Path(command[0]).exists():
        raise Failure(f"`{command[0]}` is not there")
    service = Service(
        name, command, PEER_LOGS / f"{name}.log", environment=environment or {}, url="", directory=directory
    )
    cleanup.callback(service.stop)
    return service
