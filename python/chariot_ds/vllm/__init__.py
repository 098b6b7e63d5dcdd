"""The connector for vLLM, and the only package here that imports it.

vLLM finds it by its plugin entry point; nothing needs to be imported by hand.
"""
