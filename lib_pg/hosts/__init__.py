"""One adapter a host, behind the protocol in `protocol.py`."""
