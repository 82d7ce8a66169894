"""Speed against public tools and against the machine: ``make bench``, or ``python -m benchmarks``.

Every rival runs in the same process on the same inputs as facefocus, turn by turn, so that what the
machine does meanwhile hits both. Nothing here needs data: faces are drawn, weights are random.
"""
