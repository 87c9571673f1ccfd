"""The benchmark: scenarios over a server, a stub and workers of its own, so that nothing else is touched.

Every figure comes from several runs; figures that are compared are taken in turn within one run, because a
machine's speed changes from minute to minute and a ratio taken together does not. Processor time counts every
process that does the work (worker, Redis); the stub takes the place of Trackdesk and is not counted.
"""
