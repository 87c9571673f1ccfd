"""``python -m trackdesk_worker`` is ``trackdesk``."""

from trackdesk_worker.cli import main

if __name__ == "__main__":
    main()
