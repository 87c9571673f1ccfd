"""What producer and worker agree on: the conversion, its checks, its wire forms, and how a job is stored."""
