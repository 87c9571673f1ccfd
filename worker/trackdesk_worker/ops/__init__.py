"""What operators use: the services, and the command line and console that are thin over them."""
