"""What can happen: each fault is caused for real, lasts for a while, and is mended as an operator or time would."""

from tools.chaos import disks, limits, links, processes
from tools.chaos.fault import Fault
from tools.chaos.scene import LEASE_SECONDS

BOTH = (("prefill", "decode"), ("decode", "prefill"))

FAULTS = [
    Fault("prefill's worker is killed", processes.worker_killed("prefill")),
    Fault("decode's worker is killed", processes.worker_killed("decode")),
    Fault("both workers are killed", processes.worker_killed("prefill", "decode")),
    Fault("prefill's worker hangs", processes.worker_stopped("prefill"), longest=3 * LEASE_SECONDS),
    Fault("decode's worker hangs", processes.worker_stopped("decode"), longest=3 * LEASE_SECONDS),
    Fault("prefill's worker is stopped and started", processes.worker_replaced("prefill")),
    Fault("decode's worker is stopped and started", processes.worker_replaced("decode")),
    Fault("prefill's worker is restarted with its blocks", processes.worker_restarted("prefill")),
    Fault("decode's worker is restarted with its blocks", processes.worker_restarted("decode")),
    Fault("etcd is killed", processes.etcd_killed, longest=3 * LEASE_SECONDS),
    Fault("etcd hangs", processes.stopped(lambda scene: scene.etcd.service), longest=3 * LEASE_SECONDS),
    Fault("the proxy is killed", processes.proxy_killed, longest=2, ends_requests=True),
    Fault("the proxy hangs", processes.stopped(lambda scene: scene.proxy), longest=4),
    Fault("prefill's vLLM is killed", processes.engine_killed("prefill"), longest=2),
    Fault("decode's vLLM is killed", processes.engine_killed("decode"), longest=2, ends_requests=True),
    Fault("prefill's vLLM hangs", processes.stopped(lambda scene: scene.engines["prefill"]), longest=4),
    Fault("decode's vLLM hangs", processes.stopped(lambda scene: scene.engines["decode"]), longest=4),
    Fault("the nodes lose each other", links.cut(*BOTH)),
    Fault("what prefill's node sends to decode's is lost", links.cut(BOTH[0])),
    Fault("what decode's node sends to prefill's is lost", links.cut(BOTH[1])),
    Fault("the links have 1 Mbit/s", links.slow(1000)),
    Fault("the links lose one packet in twenty", links.bad(0, 0.05)),
    Fault("the links take 200 ms", links.bad(200, 0)),
    Fault("prefill's disk is full", disks.full("prefill")),
    Fault("decode's disk is full", disks.full("decode")),
    Fault("prefill's disk fails", disks.failing("prefill")),
    Fault("decode's disk fails", disks.failing("decode")),
    Fault("prefill's disk hangs", disks.hanging("prefill")),
    Fault("decode's disk hangs", disks.hanging("decode")),
    Fault("prefill's disk gives back other bytes", disks.spoiled("prefill")),
    Fault("decode's disk gives back other bytes", disks.spoiled("decode")),
    Fault("prefill's worker has no descriptor left", limits.without_descriptors("prefill")),
    Fault("decode's worker has no descriptor left", limits.without_descriptors("decode")),
    Fault("prefill's worker has no memory left", limits.without_memory("prefill")),
    Fault("decode's worker has no memory left", limits.without_memory("decode")),
    Fault("the clock of prefill's worker is a day ahead", limits.clock_jumps("prefill", 86_400)),
    Fault("the clock of decode's worker is a day behind", limits.clock_jumps("decode", -86_400)),
    Fault("a client pins all of prefill's worker and sleeps", limits.stranger("pinner", "prefill")),
    Fault("a client pins all of decode's worker and sleeps", limits.stranger("pinner", "decode")),
    Fault("1,000 clients of decode's worker come and die", limits.crowd("decode")),
    Fault("a client writes garbage to prefill's worker", limits.stranger("babbler", "prefill")),
    Fault("a client writes garbage to decode's worker", limits.stranger("babbler", "decode")),
]
