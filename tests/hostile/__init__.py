"""What strangers may send, and what may happen while we write: nothing crashes, hangs, is lost or is claimed.

The tests take a small share of what `python -m tests.hostile` runs.
"""
