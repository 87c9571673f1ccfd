"""Changed settings of tenants come into force, and their limits into the store that all processes share."""

from typing import ClassVar

from trackdesk_worker.config.settings import SettingsInvalid
from trackdesk_worker.config.tenants import Tenants
from trackdesk_worker.maintenance.duty import BATCH, Duty, DutyContext, Turn
from trackdesk_worker.telemetry.labels import DutyName


class RefreshTenants(Duty):
    """Reads the tenants file again when it changed. A wrong one is refused as a whole; the settings before stay."""

    name: ClassVar = DutyName.REFRESH_TENANTS

    def __init__(self, context: DutyContext, tenants: Tenants) -> None:
        super().__init__(context)
        self._tenants = tenants
        self._limits_applied = False
        self._server: str | None = None
        """Which run of which server got the limits. Another one may have forgotten them, or hold older ones."""

    def run_once(self, turn: Turn) -> None:
        """Apply changed settings."""
        try:
            if self._tenants.refresh():
                self._limits_applied = False  # and stays so until they are in a store that may be away just now
                self._log.info("tenants.reloaded", tables=len(self._tenants.own))
        except SettingsInvalid as error:
            self._log.error("tenants.refused", detail=str(error))
        self._metrics.tenants_refused(self._tenants.refused is not None)
        server = self._store.client.info("server").get("run_id")
        if not self._limits_applied or server != self._server:
            self._apply_limits()
            self._limits_applied, self._server = True, server

    def _apply_limits(self) -> None:
        own = {name: (settings.limits, settings.policy) for name, settings in self._tenants.own.items()}
        known = set(self._store.tenants())
        tenants = sorted(known | own.keys())
        for start in range(0, len(tenants), BATCH):
            self._store.run(self._store.jobs.limits(tenants[start : start + BATCH], own))
