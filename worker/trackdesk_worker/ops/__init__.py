"""Services for operators, without a user interface: the command line, the console and the exporter call them."""
