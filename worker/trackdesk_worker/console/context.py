"""The services that every handler uses."""

from dataclasses import dataclass

from trackdesk_producer import Producer
from trackdesk_worker.config.settings import Settings
from trackdesk_worker.console.sampler import Sampler
from trackdesk_worker.ops.backlog_forecast import Forecaster
from trackdesk_worker.store.job_store import JobStore


@dataclass(frozen=True, slots=True)
class Deployment:
    """The deployment that the console operates. Its clients are thread-safe."""

    settings: Settings
    store: JobStore
    forecaster: Forecaster
    producer: Producer
    sampler: Sampler
