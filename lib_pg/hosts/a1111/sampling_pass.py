"""AUTOMATIC1111: rows [cond ..., uncond ...], in one call of the U-Net or in several.

Nothing says which rows a call has: hooks count what passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lib_pg.deltas import Parameters
from lib_pg.formats.difference import Model
from lib_pg.hosts.a1111 import merging
from lib_pg.hosts.a1111.networks import active_networks, text_strength, unet_strength
from lib_pg.hosts.webui.conditioning import in_length_of, null_rows, tokens
from lib_pg.hosts.webui.lora_extension import loaded_networks, lora_module, name_of
from lib_pg.hosts.webui.sampling_pass import WebuiPass
from lib_pg.hosts.webui.text_encoder import weakened_text
from lib_pg.networks import Network
from lib_pg.weak_branch import take_rows


class A1111Pass(WebuiPass):
    """One pass of sampling in AUTOMATIC1111 1.10 and later."""

    _filled = 0
    _predictions: Sequence[Tensor] = ()
    _denoiser: nn.Module | None = None
    _in_weights: Sequence[Any] = ()
    _own_attention: bool | None = None

    @staticmethod
    def unet_of(model: Any) -> nn.Module | None:
        return getattr(getattr(model, "model", None), "diffusion_model", None)

    @staticmethod
    def signature(model: Any) -> Any:
        from modules import shared

        merged = not getattr(shared.opts, "lora_functional", False)  # the other way rounds differently
        # A refiner of the same kind is loaded into the very object of the base model.
        return (
            merged,
            model.sd_checkpoint_info,
            [(n.name, getattr(n, "mtime", None), n.dyn_dim) for n in loaded_networks()],
        )

    def strengths(self) -> Sequence[float]:
        """Other extensions change them in mid-run: Regional Prompter for each region's call of the U-Net."""
        now = {name_of(loaded): unet_strength(loaded) for loaded in self._in_weights}
        return [1.0 if network.base else now[network.name] for network in self.networks()]

    def _text_strengths(self) -> Sequence[float]:
        """They change there as well: for each call that encodes a prompt."""
        now = {name_of(loaded): text_strength(loaded) for loaded in self._in_weights}
        in_text = [network for network in self.networks() if "te" in network.parts]
        return [1.0 if network.base else now[network.name] for network in in_text]

    def null_prompt(self, ratios: Sequence[float]) -> Any:
        # An earlier one may have been encoded with other strengths than this one would be.
        return self._encode_null(ratios) if _has_own_layers() else super().null_prompt(ratios)

    def is_product(self, module: nn.Module, forward: Callable[..., Any]) -> bool:
        return merging.comes_to_product(module, forward)

    def settle(self, module: nn.Module) -> None:
        """Have the host merge now: at the layer's next call it would merge into whatever is there then."""
        merging.merge(module)

    def _active_networks(self, own_ratios: Mapping[str, float]) -> tuple[list[Network], list[str]]:
        self._in_weights = tuple(loaded_networks())
        layers = getattr(self._model, "network_layer_mapping", {})  # made with the first network
        networks, notes = active_networks(layers, own_ratios)
        return networks, [*notes, *_hypernetwork_notes()]

    def _models(self) -> dict[str, Model]:
        """The host's modules have their original names, apart from its own wrappers."""
        model = self._model
        text = "conditioner" if hasattr(model, "conditioner") else "cond_stage_model"
        return {
            "U-Net": Model("unet", "unet", model.model.diffusion_model, "model.diffusion_model."),
            "text encoder": Model("te", "te1", getattr(model, text), f"{text}."),
        }

    def _without_networks(self, module: nn.Module) -> Parameters | None:
        return merging.pristine(module)

    def weak_rows(self, total: int) -> Sequence[int]:
        """The last rows: one for each picture."""
        return range(total - self._uncond_rows, total)

    def _encode_null(self, ratios: Sequence[float]) -> Any:
        from modules import devices
        from modules.prompt_parser import SdConditioning

        width, height = self._size()
        prompt = SdConditioning([""], is_negative_prompt=True, width=width, height=height)
        with devices.autocast():
            if getattr(self._model, "lowvram", False):
                # The host moves its text encoder with its first call, and only what is in it then.
                self._model.get_learned_conditioning(prompt)
            with weakened_text(self._networks, ratios, self.pristine, self._text_strengths):
                return self._model.get_learned_conditioning(prompt)

    def _null_for(self, null: Any, params: Any) -> Any:
        # An extension that has its own forward for attention (Regional Prompter) expects the host's calls.
        if self._own_attention is None:
            self._own_attention = _has_own_attention(self.unet_of(self._model))
        like = params.text_uncond if self._own_attention else params.text_cond
        return null_rows(null, params.text_uncond, in_length_of(like))

    def before_step(self, params: Any) -> None:
        if len(params.x) != len(tokens(params.text_cond)) + len(tokens(params.text_uncond)):
            self.run.pass_over()
            self.warn(
                "a checkpoint that edits pictures by instruction cannot be guided, so plain CFG is used"
            )
            return
        super().before_step(params)
        if self.run.skips_weak_rows:
            self._predictions, self._filled = [], 0
            self._leave_out_of(params.denoiser.inner_model)

    def _leave_out_of(self, denoiser: nn.Module) -> None:
        """Have the host's calls of a denoiser leave weak rows out, where the run does.

        The host makes the denoiser, a wrapper of its model, for one pass and throws it away with this.
        """
        if denoiser is self._denoiser:
            return
        self._denoiser = denoiser
        denoise: Callable[..., Tensor] = denoiser.forward
        run = self.run

        def strong_rows_alone(x: Tensor, sigma: Tensor, **given: Any) -> Tensor:
            if not run.skips_weak_rows:
                return denoise(x, sigma, **given)
            try:
                strong = self._strong_of(x, sigma, given)
            except Exception as error:
                self._on_fault(error)
                return denoise(x, sigma, **given)
            found = None if strong is None else denoise(*strong[:2], **strong[2])
            try:
                return self._with_weak(found, len(x))
            except Exception as error:
                self._on_fault(error)
            return denoise(x, sigma, **given)

        denoiser.forward = strong_rows_alone

    def _strong_of(self, x: Tensor, sigma: Tensor, given: Any) -> tuple[Tensor, Tensor, Any] | None:
        """Return what a call of the denoiser is given for its strong rows; None where it has none."""
        rows = len(x)
        few = slice(0, rows - len(self.run.enter_unet(rows)))
        return (x[few], sigma[few], take_rows(given, few, rows)) if few.stop else None

    def _with_weak(self, found: Tensor | None, rows: int) -> Tensor:
        """Return predictions of all rows: those left out get their prompt's row's, which came before them."""
        parts = [] if found is None else [found]
        self._predictions = [*self._predictions, *parts]
        if weak := rows - sum(map(len, parts)):
            start, self._filled = self._filled, self._filled + weak
            parts.append(torch.cat(list(self._predictions))[start : self._filled])
        return torch.cat(parts)

    def _before_unet(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self.run.skips_weak_rows:
            self.run.enter_unet(len(args[0]), text=kwargs.get("context"))

    def _after_unet(self, unet: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.run.leave_unet()


def _has_own_attention(unet: nn.Module | None) -> bool:
    """Whether an extension has replaced the forward of an attention block; the host does so by class."""
    return unet is not None and any(
        "forward" in vars(module) for module in unet.modules() if hasattr(module, "to_k")
    )


def _has_own_layers() -> bool:
    """Whether an extension has replaced the forward that the host gives linear layers."""
    own = getattr(lora_module(), "network_Linear_forward", None)
    return own is not None and nn.Linear.forward is not own


def _hypernetwork_notes() -> list[str]:
    """Say of the hypernetworks, which change what attention reads and no weight, that they stay."""
    from modules import shared

    return [
        f"the hypernetwork {loaded.name} is not weakened, both branches have it; a LoRA would be"
        for loaded in getattr(shared, "loaded_hypernetworks", ())
    ]
