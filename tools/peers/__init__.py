"""`./dev bench --peers`: other systems that keep blocks in host memory, measured beside Chariot on the same machine."""
