"""One folder a host, behind the protocol in `lib_pg.host`; `webui` holds what the WebUIs share."""
