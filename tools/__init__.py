"""The Python behind ``./dev``: environments, the wheel, the checks, the demo. Standard library only, no vLLM import."""
