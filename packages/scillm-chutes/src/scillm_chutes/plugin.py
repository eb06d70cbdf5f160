"""Chutes' hooks: model names to ids, `scillm doctor` lines, settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scillm.errors import AmbiguousModelError, SettingsError, UnknownModelError, UsageError
from scillm.records import Check, Setting

from scillm_chutes.desk import shared_desk
from scillm_chutes.resolution import Mode, resolve_model
from scillm_chutes.settings import SETTINGS, accounts_from, first_base, loaded, site_from
from scillm_chutes.sites import embedding_base

if TYPE_CHECKING:
    from scillm.plugins.settings import Settings
    from scillm.records import Endpoint

SUFFIXES = (":latency", ":throughput", ":THINKING")


class ChutesPlugin:
    """The hook plugin. Remembers the settings it read at first use, as the Router does."""

    def __init__(self) -> None:
        self._settings: Settings | None = None

    def scillm_resolve_model(self, model: str, endpoint: Endpoint) -> str | None:
        """The id of the known catalog that `model` means; no network, no guess.

        A name that means none, or several, is refused; for a deployment of a Router it is left as
        it is, because another deployment may answer. While no catalog is known nothing changes.
        """
        if endpoint.provider != "chutes":
            return None
        if self._settings is None:
            self._settings = loaded()
        settings = self._settings
        mode = settings["chutes_resolve"]
        if mode == "off":
            return None
        if mode not in ("strict", "smart"):
            raise SettingsError(
                f"SCILLM_CHUTES_RESOLVE must be strict, smart or off, but is {mode!r}."
            )
        base = endpoint.api_base or first_base(settings)
        ids = self._ids(base, settings)
        if ids is None:
            return None
        # The hook is not told whether texts or chats are asked for; no id is both.
        ids += self._ids(embedding_base(base), settings) or ()
        try:
            return resolved_list(model, ids, mode=mode)
        except (AmbiguousModelError, UnknownModelError):
            if endpoint.name:
                return None
            raise

    def _ids(self, api_base: str, settings: Settings) -> tuple[str, ...] | None:
        site = site_from(settings, api_base)
        market = shared_desk().market(site, cache_dir=settings["chutes_cache_dir"])
        catalog = market.trusted()
        return None if catalog is None else catalog.ids

    def scillm_checks(self) -> Sequence[Check]:
        """Whether a key is set; asking the service is `scillm chutes doctor`."""
        name = "chutes key"
        try:
            accounts = accounts_from(loaded())
        except UsageError as error:
            return [Check(name=name, ok=None, detail=error.message)]
        bases = ", ".join(account.api_base for account in accounts)
        return [
            Check(name=name, ok=True, detail=f"set for {bases}; check it: scillm chutes doctor")
        ]

    def scillm_settings(self) -> Sequence[Setting]:
        """The settings of this package."""
        return SETTINGS


def resolved_list(model: str, ids: Sequence[str], *, mode: str) -> str:
    """A name, or several with commas and the service's suffix, each resolved."""
    suffix = next((end for end in SUFFIXES if model.endswith(end)), "")
    names = [name.strip() for name in model.removesuffix(suffix).split(",")]
    chosen: Mode = "smart" if mode == "smart" else "strict"
    return ",".join(resolve_model(name, ids, mode=chosen).id for name in names) + suffix
