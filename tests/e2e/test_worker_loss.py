"""The worker dies, and comes back: no request fails, no token changes, and loading resumes by itself."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conftest import FreshPrompt
from deployment import Deployment, assert_carried, wait_until_carried


def test_requests_outlive_a_killed_worker_and_use_the_next_one(
    deployment: Deployment, fresh_prompt: FreshPrompt, logs: Path
) -> None:
    assert_carried(deployment, [fresh_prompt(200)])

    prompts = [fresh_prompt(300 + index) for index in range(8)]
    expected = deployment.expected(prompts)
    with ThreadPoolExecutor(1) as pool:
        in_flight = pool.submit(deployment.through_proxy, prompts)
        # Somewhere between the first save and the last load; where exactly differs from run to run, the claim does not.
        time.sleep(0.1)
        os.kill(deployment.worker.process_id, signal.SIGKILL)
        assert in_flight.result().tokens == expected

    prompts = [fresh_prompt(200) for _ in range(3)]
    started = time.monotonic()
    assert deployment.through_proxy(prompts).tokens == deployment.expected(prompts)
    assert time.monotonic() - started < 10, "requests must not wait for a worker that is known to be gone"

    deployment.restart_worker(logs)
    wait_until_carried(deployment, fresh_prompt)
    assert_carried(deployment, [fresh_prompt(250)])
