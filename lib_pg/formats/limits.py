"""How large a network file may be as a whole, with room to spare above what exists."""

from __future__ import annotations

# Headers of LoRA files are under 1 MB; trainers add megabytes of caption statistics to some.
HEADER_BYTES_MAX = 32 * 2**20
# A LoRA on every layer of SDXL and both its text encoders has about 5,000.
TENSORS_MAX = 100_000
# The longest layer names are under 150 characters.
KEY_LENGTH_MAX = 512
# Such as `.lora_magnitude_vector.default.weight`, with an adapter's name within. Where a name is made for it,
# the search for endings takes the square of the length that is searched.
ENDING_LENGTH_MAX = 128
# An SDXL network of rank 1024 on every layer stays below, and it is still loaded into ordinary memory.
FACTOR_BYTES_MAX = 8 * 2**30
# diffusers' adapter settings with one entry a layer are below 1 MB.
ADAPTER_METADATA_LENGTH_MAX = 8 * 2**20
