"""Personalization Guidance: personalised image models that keep their subject and follow the prompt.

Method: Park, Choi, Park, Yun, "Steering Guidance for Personalized Text-to-Image Diffusion Models",
ICCV 2025 (arXiv 2508.00319).
"""

__version__ = "0.1.0"

# What the hosts list the script as, and every message begins with.
TITLE = "Personalization Guidance"
