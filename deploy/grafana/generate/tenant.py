"""One tenant: what holds, what waits, and how long that will take."""

from deploy.grafana.generate.panels import Board, Kind, Panel, Query

TENANT = Board(
    "trackdesk-tenant",
    "one tenant",
    "What holds for one tenant, what waits, and how long that will take. The 50 largest have a name here.",
    [
        Panel(
            1,
            "Blocked",
            "Why nothing leaves; empty while sales leave.",
            [Query('max by (reason) (trackdesk_tenants_blocked{tenant="$tenant"})')],
            Kind.TABLE,
            width=6,
            height=5,
            nothing="sales leave",
        ),
        Panel(
            2,
            "Waits",
            "Sales accepted and not delivered, without dead letters.",
            [Query('sum(trackdesk_jobs{tenant="$tenant",state=~"ready|scheduled|in_flight"})', "sales")],
            Kind.NUMBER,
            width=6,
            height=5,
        ),
        Panel(
            3,
            "Dead letters",
            "Sales that wait for a person's decision.",
            [Query('sum(trackdesk_jobs{tenant="$tenant",state="dead"})', "sales")],
            Kind.NUMBER,
            width=6,
            height=5,
            warn=1,
        ),
        Panel(
            4,
            "Pace",
            "Share of its full rate: below 1 after a 429, 0 while it is blocked.",
            [Query('min(trackdesk_budget_ratio{tenant="$tenant"})', "of full rate")],
            Kind.NUMBER,
            "percentunit",
            width=6,
            height=5,
            warn=1,
            alarm=0.5,
        ),
        Panel(
            5,
            "Time until all is sent",
            "What waits, at the present pace.",
            [Query('max(trackdesk_drain_seconds{tenant="$tenant"})', "until all is sent")],
            unit="s",
            width=8,
        ),
        Panel(
            9,
            "Sales that will be too late",
            "At the present pace these pass their horizon before they can be sent (estimate).",
            [Query('sum(trackdesk_late_jobs{tenant="$tenant"})', "sales")],
            width=8,
        ),
        Panel(
            6,
            "Budget used",
            "Requests per second, against those its pace allows.",
            [
                Query('sum(rate(trackdesk_budget_spent_total{tenant="$tenant"}[5m]))', "used"),
                Query('sum(trackdesk_budget_rate{tenant="$tenant"})', "allowed"),
            ],
            unit="reqps",
            width=8,
        ),
        Panel(
            7,
            "Jobs by state",
            "What waits, for whatever reason.",
            [
                Query(
                    'sum by (state) (trackdesk_jobs{tenant="$tenant",state=~"ready|scheduled|in_flight|dead"})',
                    "{{state}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            8,
            "Sales in and out",
            "Per second, from the books.",
            [
                Query('sum(rate(trackdesk_accepted_total{tenant="$tenant"}[5m]))', "accepted"),
                Query('sum by (how) (rate(trackdesk_delivered_total{tenant="$tenant"}[5m]))', "delivered, {{how}}"),
            ],
            unit="reqps",
        ),
    ],
    by_tenant=True,
)
