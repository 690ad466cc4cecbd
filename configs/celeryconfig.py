"""What the producer and the worker must agree on about the queue. Reasons stand beside the settings they belong to."""

import ssl
from typing import TYPE_CHECKING, Any

from kombu import Queue

if TYPE_CHECKING:
    from celery import Celery

#: The one task: its only argument is the list of job ids a chunk carries.
TASK = "promptmill.render_chunk"
QUEUE = "promptmill"
#: 0 is the most urgent; a batch takes 5 unless told otherwise.
PRIORITIES = 10

OPTIONS: dict[str, Any] = {
    # The ledger holds every result: a result backend would only be a second, weaker truth.
    "task_ignore_result": True,
    "task_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "task_default_queue": QUEUE,
    "task_queues": [Queue(QUEUE)],
    "task_create_missing_queues": False,
    # A message is a doorbell: acknowledged after the work, and harmless when it rings twice.
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_publish_retry": False,
    "task_send_sent_event": False,
    "worker_send_task_events": False,
    "worker_enable_remote_control": False,
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_soft_shutdown_timeout": 0.0,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    # Without it a worker exits when Redis is out of memory or cannot write its file.
    "broker_channel_error_retry": True,
    "broker_transport_options": {
        "global_keyprefix": "promptmill:",
        "priority_steps": list(range(PRIORITIES)),
        "sep": ":",
        "queue_order_strategy": "priority",
        # Only a late backstop: leases in the ledger bring a dead worker's jobs back in seconds.
        "visibility_timeout": 900,
        "unacked_restore_interval": 15,
        "unacked_restore_throttle": 1,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
}


def create_app(broker_url: str) -> "Celery":
    """A Celery application on ``broker_url`` (``redis://``, ``rediss://``, ``redis+socket://``, ``sentinel://``)."""
    from celery import Celery

    app = Celery("promptmill", broker=broker_url, set_as_current=False)
    app.conf.update(OPTIONS)
    # Left alone, kombu accepts any certificate.
    if broker_url.startswith("rediss://") and "ssl_cert_reqs" not in broker_url:
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return app
