"""The oracle: sales live through everything, and the simulated Trackdesk's ledger judges what the product says of them.

`world.py` runs the product's own scripts, policy, answer table and attempts in virtual time; `judge.py` compares what
the store says with what Trackdesk holds. `spec.py` and `simulation.py` make long seeded runs of them, and
tests/property/test_oracle_state_machine.py lets hypothesis choose each step.
"""
