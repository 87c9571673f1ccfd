"""The services that every handler uses."""

from dataclasses import dataclass

import redis

from trackdesk_producer import Producer
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.config.settings import Settings
from trackdesk_worker.console.sampler import Sampler
from trackdesk_worker.ops.backlog_forecast import Forecaster


@dataclass(frozen=True, slots=True)
class Deployment:
    """The deployment that the console operates. Its clients are thread-safe."""

    settings: Settings
    client: redis.Redis
    keys: Keys
    forecaster: Forecaster
    producer: Producer
    sampler: Sampler
