"""The Celery task. One line: everything it does is the delivery loop's."""

from celery import Celery

from trackdesk_producer.contract.wakeup import TASK_NAME
from trackdesk_worker.process.runtime import WorkerRuntime


def register(app: Celery, runtime: WorkerRuntime) -> None:
    """Give `app` the task that wake-ups name."""

    app.task(name=TASK_NAME, ignore_result=True)(runtime.run_slice)
