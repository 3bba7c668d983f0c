"""What a host is, to the bit: weights and how they lie, what hangs on modules, options, functions."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn

from tests.faults.webui import Webui, digest

_MARK = "is_personalization_guidance"
_MODULES = ("modules", "networks", "backend", "ldm_patched", "modules_forge", "comfy", "gradio")


def weights(webui: Webui) -> dict[str, tuple[Any, ...]]:
    """Return every parameter and buffer, and every other tensor that the host keeps."""
    found: dict[str, Tensor] = dict(webui.tensors())
    for name, model in webui.models().items():
        for path, module in model.named_modules():
            own = {**module._parameters, **module._buffers}
            found |= {f"{name} {path}.{key}": each for key, each in own.items() if each is not None}
    return {name: described(tensor) for name, tensor in found.items()}


def described(tensor: Tensor) -> tuple[Any, ...]:
    return (digest(tensor), tuple(tensor.shape), tensor.stride(), str(tensor.dtype), str(tensor.device))


def backups(webui: Webui) -> dict[str, tuple[Any, ...]]:
    """Return what AUTOMATIC1111 keeps of its layers while networks are in them."""
    found = {}
    for name, model in webui.models().items():
        for path, module in model.named_modules():
            kept = getattr(module, "network_weights_backup", None)
            tensors = kept if isinstance(kept, tuple) else (kept,)
            found |= {
                f"{name} {path} {i}": described(each) for i, each in enumerate(tensors) if each is not None
            }
    return found


def left_on(webui: Webui) -> list[str]:
    """Return everything of ours, or unknown, that hangs on modules of the host's models."""
    left = []
    for name, model in webui.models().items():
        for path, module in model.named_modules():
            hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
            hooks += [vars(module)["forward"]] if "forward" in vars(module) else []
            left += [f"{type(hook).__name__} on {name} {path or 'itself'}" for hook in hooks]
            left += [f"{key} of {name} {path}" for key in vars(module) if "personalization" in key]
            left += [f"{key} of {name} {path}" for key, value in vars(module).items() if _is_ours(value)]
    model: Any = webui.model()
    patcher = getattr(getattr(model, "forge_objects", None), "unet", None)
    if patcher is not None and patcher.model_options.get("conditioning_modifiers"):
        left.append("a modifier of conditionings")
    return list(dict.fromkeys(left))


def _is_ours(value: Any) -> bool:
    return getattr(value, _MARK, False) is True and not isinstance(value, nn.Module)


def options(webui: Webui) -> dict[str, Any]:
    return dict(vars(webui.shared.opts))


def functions() -> dict[str, int]:
    """Return which functions the host's modules have: one that is replaced is another object."""
    own = [name for name in sys.modules if name.partition(".")[0] in _MODULES]
    return {
        f"{name}.{key}": id(value)
        for name in own
        for key, value in vars(sys.modules[name]).items()
        if callable(value)
    }


def differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the names of what is not as it was."""
    missing = object()
    return [name for name in {**before, **after} if before.get(name, missing) != after.get(name, missing)]
