"""Dead letters: find, understand and act. One service layer under command line, HTTP API and console."""
