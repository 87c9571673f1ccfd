"""Importing a file of conversions: any size, in flat memory, safe to interrupt and to repeat."""

from trackdesk_worker.ops.importing.importer import DEFAULT_PATIENCE_S, ImportSummary, import_file
from trackdesk_worker.ops.importing.lines import FileUnreadable
from trackdesk_worker.ops.importing.rejects import Reject, RejectsFile

__all__ = ["DEFAULT_PATIENCE_S", "FileUnreadable", "ImportSummary", "Reject", "RejectsFile", "import_file"]
