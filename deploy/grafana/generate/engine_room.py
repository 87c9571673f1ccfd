"""Workers, Redis and the exporter: whether the machinery keeps up and is safe."""

from deploy.grafana.generate.panels import Board, Panel, Query

P99 = "histogram_quantile(0.99, sum by (le) (rate({}[5m])))"

ENGINE_ROOM = Board(
    "trackdesk-engine",
    "engine room",
    "Workers, Redis and the exporter: whether the machinery keeps up, and is safe.",
    [
        Panel(
            1,
            "Workers",
            "Processes with a heartbeat in Redis, and those that Prometheus scrapes.",
            [
                Query("max(trackdesk_workers)", "alive"),
                Query('count(up{job="trackdesk-worker"} == 1)', "scraped"),
            ],
            width=8,
        ),
        Panel(
            2,
            "Exporter",
            "Whether it can read Redis, and how long a reading takes.",
            [
                Query("min(trackdesk_collector_success)", "readable"),
                Query("max(trackdesk_collector_duration_seconds)", "seconds a reading takes"),
            ],
            width=8,
        ),
        Panel(
            3,
            "Redis is safe",
            "All of these must be 1.",
            [
                Query("min(trackdesk_redis_aof_enabled)", "append-only file on"),
                Query("min(trackdesk_redis_aof_write_ok)", "its writes succeed"),
                Query("min(trackdesk_redis_aof_rewrite_ok)", "its rewrites succeed"),
                Query("min(trackdesk_redis_noeviction)", "never evicts"),
                Query("min(trackdesk_redis_master)", "takes writes"),
            ],
            width=8,
        ),
        Panel(
            4,
            "Memory of Redis",
            "At 90 % of the limit enqueue refuses. No limit, no line.",
            [
                Query("max(trackdesk_redis_memory_used_bytes)", "used"),
                Query("max(trackdesk_redis_memory_max_bytes) > 0", "limit"),
            ],
            unit="bytes",
            width=8,
        ),
        Panel(
            5,
            "What a durable enqueue waits",
            "The exporter tries it every 15 s: until the disk has a write (fsync), or a replica (replicated). Average.",
            [
                Query(
                    "sum by (level) (rate(trackdesk_durability_wait_seconds_sum[5m]))"
                    " / (sum by (level) (rate(trackdesk_durability_wait_seconds_count[5m])) > 0)",
                    "{{level}}",
                )
            ],
            unit="s",
            width=8,
        ),
        Panel(
            6,
            "Standstills after 429",
            "Per hour. Each halves the tenant's pace for minutes.",
            [Query('sum(increase(trackdesk_ledger_events_total{event="freezes"}[1h]))', "standstills")],
            width=8,
        ),
        Panel(
            7,
            "Claims and settlements",
            "Time of a call to Redis; 99 of 100 are faster.",
            [
                Query(P99.format("trackdesk_claim_duration_seconds_bucket"), "claim"),
                Query(P99.format("trackdesk_settle_duration_seconds_bucket"), "settle"),
            ],
            unit="s",
            width=8,
        ),
        Panel(
            8,
            "Maintenance",
            "Jobs moved per second; jobs that stand aside for a newer release.",
            [
                Query("sum by (kind) (rate(trackdesk_maintenance_total[5m]))", "{{kind}}"),
                Query("max(trackdesk_newer_jobs)", "stand aside"),
            ],
            width=8,
        ),
        Panel(
            9,
            "Requests in flight",
            "Of all processes; at CONCURRENCY times their number they are full.",
            [Query("sum(trackdesk_requests_in_flight)", "requests")],
            width=8,
        ),
        Panel(
            10,
            "Time of a request",
            "Connect to last byte; 99 of 100 are faster.",
            [
                Query(
                    "histogram_quantile(0.99, sum by (le, outcome)"
                    " (rate(trackdesk_attempt_duration_seconds_bucket[5m])))",
                    "{{outcome}}",
                )
            ],
            unit="s",
            width=8,
        ),
        Panel(
            11,
            "Trouble",
            "Per hour: calls to Redis that failed, leases lost, sales taken back from processes that died.",
            [
                Query("sum(increase(trackdesk_store_errors_total[1h]))", "calls to Redis failed"),
                Query("sum(increase(trackdesk_leases_lost_total[1h]))", "leases lost"),
                Query('sum(increase(trackdesk_ledger_events_total{event="reclaimed"}[1h]))', "taken back"),
                Query(
                    'sum(increase(trackdesk_ledger_events_total{event="orphaned_entries"}[1h]))',
                    "orphaned index entries",
                ),
            ],
            width=8,
        ),
        Panel(
            12,
            "Replicas",
            "Connected ones, and seconds since the slowest was heard of.",
            [
                Query("max(trackdesk_redis_replicas)", "replicas"),
                Query("max(trackdesk_redis_replica_lag_seconds)", "seconds behind"),
            ],
            width=8,
        ),
        Panel(
            13,
            "Processor time of workers",
            "Cores.",
            [Query('sum by (instance) (rate(process_cpu_seconds_total{job="trackdesk-worker"}[5m]))', "{{instance}}")],
        ),
        Panel(
            14,
            "Memory of workers",
            "Resident; flat after the first minutes.",
            [Query('sum by (instance) (process_resident_memory_bytes{job="trackdesk-worker"})', "{{instance}}")],
            unit="bytes",
        ),
    ],
)
