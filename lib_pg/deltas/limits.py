"""How large anything in one layer of a network may be, with room to spare above what exists."""

from __future__ import annotations

# Beyond the narrow side of every SDXL layer (2,560 at most) a factorisation no longer saves anything.
RANK_MAX = 4096
# SDXL's widest layer has 10,240 features; its widest 3 x 3 kernel has 23,040 side by side.
FEATURES_MAX = 65_536
# U-Nets have 3 x 3 kernels.
KERNEL_MAX = 16
# Trainers store alpha in the file's type; this is the largest number of float16.
NUMBER_MAX = 65_504.0
