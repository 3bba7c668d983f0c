"""`serve`: a page of its own on the very accordion that the WebUIs show."""
