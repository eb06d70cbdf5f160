"""The sandbox: one process per case, limits it cannot lift, and a parent that never trusts it."""
