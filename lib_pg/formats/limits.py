"""How large anything in a network file may be, with room to spare above what exists."""

from __future__ import annotations

# Headers of LoRA files are under 1 MB; trainers add megabytes of caption statistics to some.
HEADER_BYTES_MAX = 32 * 2**20
# A LoRA on every layer of SDXL and both its text encoders has about 5,000.
TENSORS_MAX = 100_000
# The longest layer names are under 150 characters.
KEY_LENGTH_MAX = 512
# Beyond the narrow side of every SDXL layer (2,560 at most) a factorisation no longer saves anything.
RANK_MAX = 4096
# SDXL's widest layer has 10,240 features.
FEATURES_MAX = 65_536
# U-Nets have 3 x 3 kernels.
KERNEL_MAX = 16
# An SDXL network of rank 1024 on every layer stays below, and it is still loaded into ordinary memory.
FACTOR_BYTES_MAX = 8 * 2**30
# Trainers store alpha in the file's type; this is the largest number of float16.
ALPHA_MAX = 65_504.0
# diffusers' adapter settings with one entry a layer are below 1 MB.
ADAPTER_METADATA_LENGTH_MAX = 8 * 2**20
