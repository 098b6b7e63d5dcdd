"""The processes of a Chariot deployment, started and ended from Python: vLLM instances, the data worker, proxies."""
