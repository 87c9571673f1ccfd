"""The rules of delivery, pure: what an answer means for a job. Time and chance are arguments; nothing here
does I/O.
"""
