"""Readers of what strangers write, fuzzed by coverage where atheris is installed."""
