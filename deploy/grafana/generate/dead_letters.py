"""Dead letters and what became of them."""

from deploy.grafana.generate.panels import Board, Kind, Panel, Query

DEAD_LETTERS = Board(
    "trackdesk-dead-letters",
    "dead letters",
    "How many sales wait for a person's decision, why, what they are worth, and whether a redrive helped.",
    [
        Panel(
            1,
            "Dead letters now",
            "They never expire, and leave only by a redrive or by a named operator's discard.",
            [Query('sum(trackdesk_jobs{state="dead"})', "sales")],
            Kind.NUMBER,
            width=6,
            height=6,
            warn=1,
        ),
        Panel(
            3,
            "By reason",
            "Why Trackdesk, or our patience, ended their way. trackdesk dead causes says what to do about each.",
            [Query("sort_desc(sum by (reason) (trackdesk_dead_jobs))", "{{reason}}")],
            Kind.BARS,
            width=10,
            height=6,
            nothing="none",
        ),
        Panel(
            4,
            "Money in dead letters",
            "By currency; XXX: amounts without one.",
            [Query('sum by (currency) (trackdesk_value_at_risk{state="dead"})', "{{currency}}")],
            Kind.NUMBER,
            width=8,
            height=6,
            decimals=0,
        ),
        Panel(
            2,
            "Dead letters",
            "By tenant. A step up is one cause; the alert fires at 20 more within an hour.",
            [Query('sum by (tenant) (trackdesk_jobs{state="dead"})', "{{tenant}}")],
            stacked=True,
        ),
        Panel(
            5,
            "Redriven and discarded",
            "Per hour.",
            [
                Query('sum(increase(trackdesk_ledger_events_total{event="redriven"}[1h]))', "redriven"),
                Query('sum(increase(trackdesk_ended_total{state="discarded"}[1h]))', "discarded"),
            ],
        ),
        Panel(
            6,
            "What became of redriven sales",
            "Per second: delivered, by what Trackdesk said. confirmed_duplicate: it had been there all along.",
            [
                Query(
                    'sum by (how) (rate(trackdesk_deliveries_total{class="redrive"}[5m]))',
                    "{{how}}",
                )
            ],
            unit="reqps",
            nothing="no redrive",
        ),
        Panel(
            7,
            "Redriven sales that wait",
            "Due for more than a minute. They take what live sales leave of the budget, and a tenth at least.",
            [Query('sum by (tenant_state) (trackdesk_overdue_jobs{queue="redrive"})', "{{tenant_state}}")],
            stacked=True,
        ),
        Panel(
            8,
            "Refusals by reason",
            "Requests that Trackdesk refused for good, per hour: tomorrow's dead letters.",
            [Query('sum by (reason) (increase(trackdesk_attempts_total{outcome="rejected"}[1h]))', "{{reason}}")],
            width=24,
        ),
    ],
)
