"""One program for each system, run by the Python that has the system's client: the same workload through each."""
