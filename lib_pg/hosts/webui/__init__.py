"""What AUTOMATIC1111 and the Forge family share."""
