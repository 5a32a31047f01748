"""Measurements that the documentation quotes: ``make bench``. Ratios within one run, since machines are noisy."""
