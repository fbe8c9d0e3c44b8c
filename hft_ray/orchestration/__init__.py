"""Runs sweeps on Ray: worker groups, the dispatcher, Tune's trials, and the driver."""
