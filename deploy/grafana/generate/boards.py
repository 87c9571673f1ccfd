"""All dashboards, and where their JSON is."""

from pathlib import Path

from deploy.grafana.generate.dead_letters import DEAD_LETTERS
from deploy.grafana.generate.engine_room import ENGINE_ROOM
from deploy.grafana.generate.overview import OVERVIEW
from deploy.grafana.generate.tenant import TENANT

BOARDS = (OVERVIEW, TENANT, DEAD_LETTERS, ENGINE_ROOM)
DIRECTORY = Path(__file__).parents[1] / "dashboards"
