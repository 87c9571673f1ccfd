"""The job store: one Lua script per transition, and the reads that ops and metrics need."""
