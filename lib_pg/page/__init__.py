"""The part of the extension that users see in AUTOMATIC1111 and Forge; the hosts' packages stay in here."""
