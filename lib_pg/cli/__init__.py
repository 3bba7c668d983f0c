"""The standalone program: personalization guidance on Hugging Face diffusers, without a WebUI."""
